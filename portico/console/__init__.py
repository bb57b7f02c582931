"""The live page: a client of the gateway's public API, made of static files. This room only serves them."""
