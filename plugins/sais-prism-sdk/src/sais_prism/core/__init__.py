"""Configuration, the decorator, the service locator and the errors."""
