"""Run the command."""

from eomt_ext_training.built_in.command import main

main()
