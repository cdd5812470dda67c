"""What all commands share: options, configuration files, and what is printed."""
