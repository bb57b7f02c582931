"""The application: wiring, settings, the server and the gateway process."""
