"""Finding a learning rate: a few steps at rates that rise, and what their losses say."""
