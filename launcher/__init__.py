"""The set-up and start of Sfumato: standard library only, because it runs before anything is installed."""
