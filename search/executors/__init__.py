"""Where trials run: `local`, one worker process a slot; `devices` says what there is to run on."""
