"""How fast the engine is on the machine it stands on, beside the ways it replaces; run by ``eomt-ext bench``."""
