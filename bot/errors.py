"""Everything Roost raises on purpose.

    RoostError
    ├── ConfigError        bot.toml, an environment override or a command-line option is wrong
    ├── PluginError        a plugin could not be loaded or registered
    ├── StoreError         a file of ours cannot be read or written
    ├── ModelError         a model file is missing, damaged or not one
    ├── BrainError         an answer could not be made
    └── ChannelError
        ├── LoginFailed    the platform refuses the credentials: the channel stops
        ├── NotSent        nothing was delivered: safe to send again, after `retry_after` seconds
        ├── MaybeSent      the connection died after the request left: nobody knows
        └── Undeliverable  the platform will never take this: the target is gone or the content refused

A message is one or more full sentences: what happened, the value in quotes, where, what to do.
"""

from __future__ import annotations


class RoostError(Exception):
    """Begin every error Roost raises on purpose."""


class ConfigError(RoostError):
    """Say what is wrong in the configuration, where, and how to cure it."""


class PluginError(RoostError):
    """Say which plugin could not be loaded or registered, and why."""


class StoreError(RoostError):
    """Say which file of ours cannot be read or written."""


class ModelError(RoostError):
    """Say which model file is missing, damaged or not a model."""


class BrainError(RoostError):
    """Say why an answer could not be made. `status` is what a server refused it with, 0 where none did (RFC 9110)."""

    status: int = 0


class ChannelError(RoostError):
    """Begin the errors of channels."""


class LoginFailed(ChannelError):
    """The platform refuses the credentials. The supervisor stops the channel; trying again is pointless."""


class NotSent(ChannelError):
    """Nothing was delivered, so sending again is safe.

    `retry_after` is the number of seconds the platform asked us to wait, or None when it did not say.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class MaybeSent(ChannelError):
    """The request left and no answer came back: the message may or may not have been delivered."""


class Undeliverable(ChannelError):
    """The platform will never accept this message; it goes to the dead letters."""
