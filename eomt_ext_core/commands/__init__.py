"""The longer commands of ``eomt-ext``, a module each; ``cli`` puts them together."""
