"""The subcommands of ``semacdr``, one module each."""
