"""Adapters of every kind added up by weight, against sums that are computed here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tunesmith import DataError, DiskError, TunesmithError, UsageError
from tunesmith.artifact import load_artifact, read_card
from tunesmith.combine import Weighted, combine
from tunesmith.store import damage


def add_up(bench: Any, parts: Mapping[Path, float], how: str | None = None, **options: Any) -> Path:
    weighted = [Weighted(artifact, weight, artifact.parent.name) for artifact, weight in parts.items()]
    return combine(weighted, bench.folder / "sum", bench.registry, bench.context, how=how, options=options)


def weights(bench: Any, artifact: Path) -> dict[str, torch.Tensor]:
    """The weights of the artifact's model, merged."""
    return dict(load_artifact(artifact, bench.registry, bench.context).merge().state_dict())


def base_weights(bench: Any) -> dict[str, torch.Tensor]:
    return load_file(str(bench.model / "model.safetensors"))


def summed(bench: Any, parts: Mapping[Path, float]) -> dict[str, torch.Tensor]:
    """base + sum of weight x (merged - base), by the definition."""
    base = base_weights(bench)
    tuned = [(weights(bench, artifact), weight) for artifact, weight in parts.items()]
    return {n: t + sum(weight * (found[n] - t) for found, weight in tuned) for n, t in base.items()}


def apart(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> float:
    return max(float((found[name] - tensor).abs().max()) for name, tensor in expected.items())


LORA = {"use": "lora", "rank": 4}
KINDS = {
    "other ranks": (LORA, {"use": "lora", "rank": 2, "alpha": 3}),
    "rslora": ({**LORA, "use_rslora": True}, {**LORA, "use_rslora": True}),
    "pissa": ({"use": "lora", "rank": 2, "init": "pissa"}, {"use": "lora", "rank": 2, "init": "olora"}),
    "other layers": ({**LORA, "target_modules": ["q_proj"]}, {**LORA, "target_modules": ["v_proj", "down_proj"]}),
    "patterns": ({**LORA, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 8}}, LORA),
}


@pytest.mark.parametrize("kind", KINDS)
def test_cat_is_the_weighted_sum_of_the_updates(bench: Any, batch: Any, kind: str) -> None:
    first, second = KINDS[kind]
    parts = {bench.make("a", first): 0.7, bench.make("b", second, seed=2): -0.4}
    made = add_up(bench, parts)
    assert damage(made) == []
    assert apart(weights(bench, made), summed(bench, parts)) < 1e-5
    # the outputs of the unmerged sum are those of a model with the summed weights
    adapted = load_artifact(made, bench.registry, bench.context)
    reference = load_artifact(next(iter(parts)), bench.registry, bench.context).merge()
    reference.load_state_dict({**reference.state_dict(), **summed(bench, parts)})
    with torch.no_grad():
        ours, theirs = adapted.model(**batch).logits, reference(**batch).logits
    assert float((ours - theirs).abs().max()) < 1e-5 * float(theirs.abs().max())


def test_the_sum_is_an_artifact_like_any_other(bench: Any) -> None:
    parts = {bench.make("a", LORA): 0.7, bench.make("b", LORA, seed=2): 0.3}
    card = read_card(add_up(bench, parts))
    assert card["base"] == read_card(next(iter(parts)))["base"]
    assert card["line"]["adapter"]["settings"] | {"rank": 8, "alpha": 8.0} == card["line"]["adapter"]["settings"]
    assert [(part["run"], part["weight"]) for part in card["combined"]["parts"]] == [("a", 0.7), ("b", 0.3)]
    assert "0.7 x a + 0.3 x b" in (bench.folder / "sum" / "README.md").read_text()
    names = {path.name for path in (bench.folder / "sum").iterdir()}
    assert names == {
        "adapter_config.json", "adapter_model.safetensors", "tunesmith.json", "README.md", "digests.json"
    }  # fmt: skip
    from tunesmith_export.merge import export
    from tunesmith_export.settings import MergeSettings

    folder = export(bench.folder / "sum", MergeSettings(to=Path("model")), bench.context)
    assert apart(load_file(str(folder / "model.safetensors")), summed(bench, parts)) < 1e-5
    assert json.loads((folder / "export.json").read_text())["artifact"]["combined"]["parts"][0]["weight"] == 0.7


def test_svd_is_the_nearest_of_its_rank(bench: Any) -> None:
    parts = {bench.make("a", LORA): 0.7, bench.make("b", LORA, seed=2): 0.3}
    expected, base = summed(bench, parts), base_weights(bench)
    found = weights(bench, add_up(bench, parts, "svd", svd_rank=6))
    for name, tensor in expected.items():
        wanted, ours = tensor - base[name], found[name] - base[name]
        if wanted.abs().max() == 0:
            continue
        left = torch.linalg.svdvals(wanted)[6:]
        assert float((wanted - ours).norm()) == pytest.approx(float(left.norm()), abs=1e-5), name


def test_svd_of_the_full_rank_is_exact(bench: Any) -> None:
    parts = {bench.make("a", LORA): 0.7, bench.make("b", LORA, seed=2): 0.3}
    assert apart(weights(bench, add_up(bench, parts, "svd", svd_rank=8)), summed(bench, parts)) < 1e-5


def test_linear_adds_up_the_matrices_apart(bench: Any) -> None:
    a, b = bench.make("a", LORA), bench.make("b", LORA, seed=2)
    made = add_up(bench, {a: 0.6, b: 0.4}, "linear")
    one, two, both = (load_file(str(f / "adapter_model.safetensors")) for f in (a, b, made))
    scale = 32 / 4  # alpha / rank
    for name, tensor in both.items():
        expected = (0.6 * scale) ** 0.5 * one[name] + (0.4 * scale) ** 0.5 * two[name]
        assert torch.allclose(tensor, expected, atol=1e-6), name


def test_ways_that_prune(bench: Any) -> None:
    a, b = bench.make("a", LORA), bench.make("b", LORA, seed=2)
    made = add_up(bench, {a: 1.0, b: 1.0}, "ties", density=0.5, majority_sign_method="frequency")
    assert load_artifact(made, bench.registry, bench.context).config.r == 4
    card = read_card(made)["combined"]
    assert (card["how"], card["options"]) == ("ties", {"density": 0.5, "majority_sign_method": "frequency"})


def test_a_way_that_draws_draws_by_the_seed(bench: Any) -> None:
    a, b = bench.make("a", LORA), bench.make("b", LORA, seed=2)
    found = []
    for seed in (1, 1, 2):
        bench.context = bench.context.with_(seed=seed)
        made = add_up(bench, {a: 1.0, b: 1.0}, "dare_linear", density=0.5)
        found.append((made / "adapter_model.safetensors").read_bytes())
        made.rename(bench.folder / f"made-{len(found)}")
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("how", "options", "said"),
    [
        ("magic", {}, "not combined by 'magic'"),
        ("cat", {"density": 0.5}, "'density' is no option"),
        ("ties", {}, "ties needs density"),
        ("ties", {"density": 1.5}, "density = 1.5 is not a share"),
        ("svd", {"svd_rank": 0}, "svd_rank = 0 is not a whole number"),
        ("svd", {"svd_rank": "big"}, "svd_rank = 'big'"),
    ],
)
def test_wrong_ways_and_options_are_named(bench: Any, how: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        add_up(bench, {bench.make("a", LORA): 1.0, bench.make("b", LORA, seed=2): 1.0}, how, **options)
    assert not (bench.folder / "sum").exists()


def test_linear_needs_equal_ranks(bench: Any) -> None:
    parts = {bench.make("a", LORA): 0.5, bench.make("b", {"use": "lora", "rank": 2}): 0.5}
    with pytest.raises(TunesmithError, match="PEFT cannot combine these adapters: All adapters must have the same r"):
        add_up(bench, parts, "linear")
    assert not (bench.folder / "sum").exists()


def test_a_rank_over_the_layers_is_refused(bench: Any) -> None:
    wide = {"use": "lora", "rank": 12, "target_modules": ["k_proj"]}  # 32 x 16
    parts = {bench.make("a", wide): 0.5, bench.make("b", wide, seed=2): 0.5}
    with pytest.raises(TunesmithError, match="would have rank 24, over the size of .*k_proj") as caught:
        add_up(bench, parts)
    assert caught.value.fix == "Combine by svd: --how svd --set svd_rank=12"
    add_up(bench, parts, "svd", svd_rank=12)


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ({**LORA, "use_dora": True}, "is DoRA"),
        ({**LORA, "modules_to_save": ["norm"]}, "trained in full"),
        ({"use": "houlsby", "bottleneck": 4}, "houlsby adapters cannot be combined: a bottleneck is not linear"),
        ({"use": "prompt"}, "PROMPT_TUNING adapters cannot be combined"),
    ],
)
def test_methods_without_a_sum_say_so(bench: Any, adapter: dict[str, Any], said: str) -> None:
    with pytest.raises(TunesmithError, match=said):
        add_up(bench, {bench.make("a", adapter): 0.5, bench.make("b", adapter, seed=2): 0.5})
    assert not (bench.folder / "sum").exists()


def test_factors_are_averaged(bench: Any) -> None:
    a, b = bench.make("a", {"use": "ia3"}), bench.make("b", {"use": "ia3"}, seed=2)
    with pytest.raises(UsageError, match=r"the weights add up to 1.5"):
        add_up(bench, {a: 1.0, b: 0.5})
    one, two, both = (
        load_file(str(f / "adapter_model.safetensors")) for f in (a, b, add_up(bench, {a: 0.25, b: 0.75}))
    )
    assert all(torch.allclose(both[n], 0.25 * one[n] + 0.75 * two[n]) for n in one)
    load_artifact(bench.folder / "sum", bench.registry, bench.context)


def test_factors_of_different_layers_are_refused(bench: Any) -> None:
    a = bench.make("a", {"use": "ia3"})
    b = bench.make("b", {"use": "ia3", "target_modules": ["q_proj", "up_proj"]})
    with pytest.raises(TunesmithError, match="multiply different layers"):
        add_up(bench, {a: 0.5, b: 0.5})


@pytest.mark.parametrize("adapter", [{"use": "full"}, {"use": "head"}, {"use": "last-layers", "layers": 1}], ids=str)
def test_weights_trained_in_place_are_averaged(bench: Any, adapter: dict[str, Any]) -> None:
    parts = {
        bench.make("a", adapter): 0.5,
        bench.make("b", adapter, seed=2): 0.5,
        bench.make("c", adapter, seed=3): 0.2,
    }
    assert apart(weights(bench, add_up(bench, parts)), summed(bench, parts)) < 1e-6


def test_a_sum_of_sums(bench: Any) -> None:
    a, b = bench.make("a", LORA), bench.make("b", {"use": "lora", "rank": 2}, seed=2)
    made = add_up(bench, {a: 0.5, b: 0.5}).rename(bench.folder / "first")
    again = add_up(bench, {made: 2.0, b: -1.0})
    assert apart(weights(bench, again), summed(bench, {a: 1.0})) < 1e-5


# --- what does not belong together ----------------------------------------------------------------
def test_a_base_that_is_another_one_now_is_refused(bench: Any, tmp_path: Path) -> None:
    from tunesmith.testing import tiny_folder

    bench.model = tiny_folder(tmp_path / "changing")
    parts = {bench.make("a", LORA): 0.5, bench.make("b", LORA, seed=2): 0.5}
    shutil.rmtree(bench.model)
    tiny_folder(bench.model, seed=1)
    with pytest.raises(DataError, match="was made for another base model") as caught:
        add_up(bench, parts)
    assert caught.value.fix == "Restore the base model that the run used."
    assert not (bench.folder / "sum").exists()


def test_another_base_is_refused_with_both_digests(bench: Any, tmp_path: Path) -> None:
    from tunesmith.testing import tiny_folder

    a = bench.make("a", LORA)
    bench.model = tiny_folder(tmp_path / "other-model", seed=1)
    b = bench.make("b", LORA)
    with pytest.raises(DataError, match="a and b have different bases") as caught:
        add_up(bench, {a: 0.5, b: 0.5})
    digests = [read_card(artifact)["base"]["digest"] for artifact in (a, b)]
    assert caught.value.details == (f"a: {digests[0]}", f"b: {digests[1]}")


def test_other_kinds_and_other_parents_are_refused(bench: Any) -> None:
    a, b = bench.make("a", LORA), bench.make("b", {"use": "ia3"})
    with pytest.raises(DataError, match="different kinds of adapter") as caught:
        add_up(bench, {a: 0.5, b: 0.5})
    assert caught.value.details == ("a: lora/lora", "b: ia3/ia3")
    c = bench.make("c", LORA, parent=a)
    with pytest.raises(DataError, match="different merged earlier stages"):
        add_up(bench, {a: 0.5, c: 0.5})
    d = bench.make("d", LORA, seed=4, parent=a)
    load_artifact(add_up(bench, {c: 0.5, d: 0.5}), bench.registry, bench.context)


def test_another_quantization_is_told(bench: Any) -> None:
    a, b = bench.make("a", LORA), bench.make("b", LORA, quantizer={"use": "rounding"})
    add_up(bench, {a: 0.5, b: 0.5})
    assert any("b was trained over rounded weights, a over dense ones" in line for line in bench.said)


def test_too_few_wrong_weights_and_taken_folders_are_refused(bench: Any) -> None:
    a, b = bench.make("a", LORA), bench.make("b", LORA, seed=2)
    with pytest.raises(UsageError, match="two adapters or more"):
        add_up(bench, {a: 1.0})
    with pytest.raises(UsageError, match="the weight of b is nan"):
        add_up(bench, {a: 1.0, b: float("nan")})
    (bench.folder / "sum").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        add_up(bench, {a: 1.0, b: 1.0})


def test_a_damaged_part_is_refused(bench: Any) -> None:
    a, b = bench.make("a", LORA), bench.make("b", LORA, seed=2)
    (b / "adapter_config.json").write_text("{}")
    with pytest.raises(TunesmithError, match="is damaged"):
        add_up(bench, {a: 0.5, b: 0.5})


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_loaded(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [Weighted(bench.make(name, LORA), 1.0, name) for name in ("a", "b")]
    monkeypatch.setattr("tunesmith.combine.load_base", lambda *_: pytest.fail("it was loaded"))
    (bench.folder / "file").write_text("")
    (bench.folder / "link").symlink_to(bench.folder / "gone")
    for name, error, said in (
        ("file/sum", DiskError, "file is a file, not a folder"),
        ("link/sum", DiskError, "link is a link to nothing"),
        ("link", UsageError, "exists already"),
    ):
        with pytest.raises(error, match=said):
            combine(parts, bench.folder / name, bench.registry, bench.context)
