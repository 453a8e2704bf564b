"""A wake-word service for Home Assistant: its messages (`service`) and sockets (`server`)."""
