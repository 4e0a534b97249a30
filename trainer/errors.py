"""What can go wrong before and during training, said in one sentence each.

    TrainerError
    ├── ConfigError    the YAML file: not there, malformed, an unknown key, a wrong type
    ├── DataError      a data file: not there, empty, a column missing, a label unseen
    └── ModelError     a model folder or package: not there, or unfit for the method

Classes with more to say sit beside the code that raises them.
"""


class TrainerError(Exception):
    """Base of the errors a user can put right; the command prints the message and exits with 2."""


class ConfigError(TrainerError):
    pass


class DataError(TrainerError):
    pass


class ModelError(TrainerError):
    pass
