"""What things are drawn with: the canvas in perspective, sprites, and textures."""
