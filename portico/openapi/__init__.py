"""The OpenAPI document of a gateway, and the pages that show it."""
