"""Set-up of the process: memory for images, and Fast DDS."""
