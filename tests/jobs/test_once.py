"""A run is made once: what is finished is found, whatever its command does."""

import pytest

from sae_cli.config.commands import RandomizeConfig
from sae_cli.config.model import ModelConfig
from sae_cli.errors import JobError, RequestError
from sae_cli.jobs.once import Claim, once


class Maker:
    """Leaves a file, and counts how often."""

    def __init__(self):
        self.times = 0

    def __call__(self, claim):
        self.times += 1
        with claim.open() as run:
            run.write_json("made.json", self.times)
            return run.finish(seconds=claim.seconds())


@pytest.fixture
def make():
    return Maker()


def claim(folder, seed=0, **settings):
    config = RandomizeConfig(model=ModelConfig(path="embedded:demo"), seed=seed, **settings)
    return Claim("randomize-weights", config, folder / "a")


def test_a_finished_run_is_found_with_its_configuration(tmp_path, make, capsys):
    first = once(claim(tmp_path), make)
    seen = []
    again = once(claim(tmp_path), make, seen.append)
    assert (make.times, again.manifest, [each.directory for each in seen]) == (1, first.manifest, [tmp_path / "a"])
    assert sorted(first.manifest.files) == ["config.yaml", "made.json"]
    assert f"{tmp_path / 'a'}" in capsys.readouterr().err


def test_what_looks_at_a_finished_run_may_refuse_it(tmp_path, make):
    def refuse(finished):
        raise RequestError("of another text")

    once(claim(tmp_path), make)
    with pytest.raises(RequestError, match="of another text"):
        once(claim(tmp_path), make, refuse)


def test_execution_settings_do_not_make_it_another_run_and_others_are_refused(tmp_path, make):
    once(claim(tmp_path), make)
    once(claim(tmp_path, device="cpu", model_rows=2), make)
    with pytest.raises(RequestError, match="seed: 0 -> 1"):
        once(claim(tmp_path, seed=1), make)
    assert make.times == 1


def test_it_is_made_again_where_that_is_asked_for_or_it_failed(tmp_path, make):
    def fail(claim):
        with claim.open():
            raise JobError("no luck")

    with pytest.raises(JobError, match="no luck"):
        once(claim(tmp_path), fail)
    attempt = claim(tmp_path).attempt()
    assert attempt is not None and attempt.manifest.status == "failed"
    once(claim(tmp_path), make)
    assert once(claim(tmp_path, overwrite=True), make).read_json("made.json") == 2


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_done(tmp_path, make, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(JobError, match="cannot be written"):
        once(claim(tmp_path), make)
    assert make.times == 0 and not (tmp_path / "a").exists()
