"""Who proposes and who stops: `optuna` draws, `samplers` and `pruners` are the menus."""
