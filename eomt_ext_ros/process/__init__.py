"""How the process is set up: memory for images, and Fast DDS."""
