"""The pass of a dictionary over activations whose true features are known."""

from __future__ import annotations

from collections.abc import Iterator

from sae_cli.config.split import Split
from sae_cli.dictionaries.base import Dictionary
from sae_cli.evaluation.encode import encoded
from sae_cli.evaluation.subject import SyntheticSubject
from sae_cli.metrics.code_length import CodeBook
from sae_cli.metrics.mean import Mean
from sae_cli.metrics.reconstruction import ReconstructionSums
from sae_cli.metrics.similarity import MOST_ASSIGNED, max_cosines
from sae_cli.metrics.truth import EncodedTruth, FiringCounts, Matches, mcc
from sae_cli.tensor_types import Float, Int, Tensor
from sae_cli.terminal import console
from sae_cli.terminal.progress import progress


def against_truth(
    dictionary: Dictionary, subject: SyntheticSubject, tokens: int, book: CodeBook
) -> tuple[ReconstructionSums, dict[str, float | int | None]]:
    """Reconstruction of so many held-out tokens, what their code takes, and the figures of decoder rows and of firing
    against the truth."""
    W_dec, directions = dictionary.W_dec.cpu(), subject.truth.directions()
    matches = Matches.between(W_dec, directions)
    reconstruction = ReconstructionSums(origin=dictionary.activation_mean)
    firing, bits = FiringCounts.of(matches), Mean()
    for seen in _encoded_truth(dictionary, subject, tokens):
        reconstruction.add(seen.encoded)
        bits.add(book.bits(seen.encoded))
        firing.add(seen)
    assigned = mcc(W_dec, directions)
    if assigned is None:
        most = max(len(W_dec), len(directions))
        console.log(f"no MCC: {most:,} features, more than the {MOST_ASSIGNED:,} that are assigned one to one")
    figures = {"bits": float(bits.results()), "mcc": assigned, "uniqueness": matches.uniqueness}
    return reconstruction, {**figures, **firing.results()}


def directions_found(
    truth: Float[Tensor, "A D"], W_dec: Float[Tensor, "F D"], count: Int[Tensor, " F"]
) -> dict[str, float]:
    """How near the features that fire come to true directions."""
    alive = W_dec[count > 0]
    found = max_cosines(truth, alive) if len(alive) else truth.new_zeros(1)
    return {
        "mmcs_truth_to_dictionary": float(found.mean()),
        "truth_recovered_0.9": float((found > 0.9).float().mean()),
    }


def _encoded_truth(dictionary: Dictionary, subject: SyntheticSubject, tokens: int) -> Iterator[EncodedTruth]:
    """What is seen of so many held-out tokens, in bounded memory."""
    done = 0
    with progress(tokens, "truth") as advance:
        for coded in subject.coded_blocks(Split.held_out, tokens):
            start = 0
            for seen in encoded(dictionary, [coded.block]):
                stop = start + len(seen.x)
                yield EncodedTruth(seen, coded.codes.rows_between(start, stop), done + start)
                start = stop
            done += start
            advance(start)
