"""The feature pages, as the feature browser takes them."""

from __future__ import annotations

from collections.abc import Mapping

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.reports.values import FeaturePages
from sae_cli.runs.feature_pages import LOGITS, StoredPages


def feature_pages(run: FinishedRun, concepts: Mapping[int, str] | None = None) -> FeaturePages:
    """The pages in a run of `sae features`, with the concept that each feature tells best where that is known.

    Raises:
        JobError: a file is damaged, or holds something else.
    """
    pages = StoredPages(run)
    about, contexts, tensors = pages.about, pages.contexts, dict(sorted(pages.tensors.items()))
    n = len(contexts["feature"])
    plain = {name: each.numpy() for name, each in tensors.items() if each.shape == (n,) and name != "feature"}
    text = (
        f"{n:,} features: contexts from {about['tokens_seen']:,} tokens of the {about['split']} split, "
        f"statistics from the {about['statistics_tokens']:,} tokens of the evaluation."
    )
    return FeaturePages(
        feature=contexts["feature"].numpy(),
        statistics=plain,
        tokens=contexts["tokens"].numpy(),
        activations=contexts["activations"].numpy(),
        document=contexts["document"].numpy(),
        quantile=contexts["quantile"].numpy(),
        peak=contexts["peak"].numpy(),
        vocabulary={int(key): str(value) for key, value in about["vocabulary"].items()},
        documents={int(key): str(value) for key, value in about["documents"].items()},
        bands=int(about["bands"]),
        nearest=tensors["nearest"].numpy(),
        nearest_cosine=tensors["nearest_cosine"].numpy(),
        logits={name: tensors[name].numpy() for name in LOGITS if name in tensors},
        ablation={int(each["feature"]): each for each in about["ablation"]},
        concepts=concepts or {},
        about=text,
    )
