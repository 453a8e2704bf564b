"""A wake-word service for Home Assistant: what is said (`service`) and the sockets (`server`)."""
