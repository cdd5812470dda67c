"""Run the command."""

from eomt_ext_core.exits import explained

with explained("built_in"):
    from eomt_ext_training.built_in.command import main

    main()
