"""The setting `tracker`: where the training curve goes besides `metrics.jsonl`."""

TRACKERS = ("tensorboard", "wandb")


def trackers(given: object) -> list[str]:
    """The trackers that are asked for, each once; none for null, `none` and an empty list.

    Raises:
        ValueError: there is no such tracker.
    """
    names = given if isinstance(given, list) else [given]
    wanted = [each for each in names if each not in (None, "none")]
    for each in wanted:
        if each not in TRACKERS:
            raise ValueError(f"tracker={each}: expected none, {', '.join(TRACKERS)} or a list of them")
    return [name for name in TRACKERS if name in wanted]
