"""Run the command."""

from eomt_ext_core.exits import exit_on_error

with exit_on_error("built_in"):
    from eomt_ext_training.built_in.command import main

    main()
