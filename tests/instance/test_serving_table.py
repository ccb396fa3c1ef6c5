"""Which version answers, and that it stays while it is used."""

import pytest

from model_api.errors import ModelNotReady, ModelRefused, UnknownModel, VersionNotLoaded
from model_api.instance.serving_table import Answering, ServingTable, in_canary
from model_api.instance.version import Version
from model_api.repository.manifest import FileEntry, Manifest


def version(number: str) -> Version:
    return Version(Manifest("m", number, "embedding", (FileEntry("f", 1, number * 64),), 0))


def table_of(route: Answering) -> ServingTable:
    table = ServingTable()
    table.replace({route.name: route}, complete=True)
    return table


def chosen(table: ServingTable, selector: str, key: str = "") -> Version:
    with table.use(selector, key) as found:
        return found


def test_name_version_and_canary_are_found() -> None:
    one, two, three = version("1"), version("2"), version("3")
    table = table_of(Answering("m", one, two, 0.0, {"1": one, "2": two, "3": three}))
    assert chosen(table, "m") is one
    assert chosen(table, "m@3") is three
    assert chosen(table, "m@canary") is two


def test_what_is_not_there_is_told_apart() -> None:
    one = version("1")
    table = table_of(Answering("m", one, ready={"1": one}))
    with pytest.raises(UnknownModel):
        chosen(table, "n")
    with pytest.raises(VersionNotLoaded):
        chosen(table, "m@2")
    with pytest.raises(VersionNotLoaded):
        chosen(table, "m@canary")
    with pytest.raises(ModelNotReady, match="refused"):
        chosen(table_of(Answering("m", why_not="refused")), "m")
    with pytest.raises(ModelNotReady):
        chosen(ServingTable(), "m")


def test_a_canarys_share_is_sticky_and_about_its_percentage() -> None:
    picked = [in_canary("m", "d" * 64, f"caller {n}", 20) for n in range(5000)]
    assert picked == [in_canary("m", "d" * 64, f"caller {n}", 20) for n in range(5000)]
    assert 850 < sum(picked) < 1150
    assert not any(in_canary("m", "d" * 64, f"caller {n}", 0) for n in range(100))
    assert all(in_canary("m", "d" * 64, f"caller {n}", 100) for n in range(100))


def test_another_canary_picks_others() -> None:
    first = [in_canary("m", "a" * 64, f"caller {n}", 50) for n in range(200)]
    assert first != [in_canary("m", "b" * 64, f"caller {n}", 50) for n in range(200)]


def test_a_version_in_use_drains_only_when_the_last_user_has_gone() -> None:
    one, drained = version("1"), []
    table = table_of(Answering("m", one))
    with table.use("m"):
        with table.use("m"):
            one.drain(lambda: drained.append("now"))
        assert drained == []
        with pytest.raises(ModelNotReady), table.use("m"):
            pass
    assert drained == ["now"]


def test_who_meets_a_draining_version_gets_its_successor() -> None:
    one, two = version("1"), version("2")
    table = ServingTable()
    table.replace({"m": Answering("m", one)}, complete=True)
    one.drain(lambda: None)

    class Swapped(Answering):
        """A route that is replaced between the look at it and the grip on its version."""

        def choose(self, tag: str, canary_key: str) -> Version:
            table.replace({"m": Answering("m", two)}, complete=True)
            return one

    table.replace({"m": Swapped("m", one)}, complete=True)
    assert chosen(table, "m") is two


def test_a_version_that_was_replaced_says_since_when() -> None:
    table = table_of(Answering("m", version("2"), gone={"1": "version 2 replaced it at noon"}))
    with pytest.raises(VersionNotLoaded, match="m@1 is not loaded here: version 2 replaced it at noon"):
        chosen(table, "m@1")


def embedding(name: str) -> Answering:
    return Answering(name, task="embedding")


def test_sim_keeps_its_model() -> None:
    table = ServingTable()
    table.replace({"main": embedding("main")}, complete=False)
    assert table.sim_model() is None  # another may still be unseen
    table.replace({"main": embedding("main")}, complete=True)
    assert (table.sim_model(), table.asks_for_sim_model()) == (None, True)  # the other instances may use another
    table.hear_sim_model(None)
    table.replace({"main": embedding("main"), "x": Answering("x", undecided=True)}, complete=True)
    assert table.sim_model() is None  # that copy may be another
    table.replace({"main": embedding("main")}, complete=True)
    both = {"ape": embedding("ape"), "main": embedding("main")}
    table.replace(both, complete=True)
    assert (table.sim_model(), table.asks_for_sim_model()) == ("main", False)
    table.replace(both, complete=True, sim_choice="ape")
    assert table.sim_model() == "ape"
    table.replace(both, complete=True, sim_choice="gone")
    assert table.sim_model() == "ape"
    table.replace({"main": embedding("main"), "c": Answering("c", task="summarization")}, complete=True)
    assert table.sim_model() == "main"


def test_of_several_models_sim_takes_what_answered_before_or_none() -> None:
    both = {"ape": embedding("ape"), "main": embedding("main")}
    table = ServingTable()
    table.replace(both, complete=True)
    assert table.asks_for_sim_model()
    table.hear_sim_model("main")
    table.adopt_sim_model("ape")
    table.replace(both, complete=True)
    assert table.sim_model() == "main"


def test_a_name_that_is_nearly_right_is_told() -> None:
    table = table_of(Answering("sentiment", None))
    with pytest.raises(UnknownModel, match="did you mean 'sentiment'"), table.use("sentimet"):
        pass
    with pytest.raises(UnknownModel, match="GET /models lists them"), table.use("zzz"):
        pass


def test_what_is_refused_for_good_says_why_and_not_to_wait() -> None:
    table = table_of(Answering("m", refusal="version 2 was refused (bad labels)", refused={"2": "bad labels"}))
    for selector in ("m", "m@2"):
        with pytest.raises(ModelRefused, match="bad labels"), table.use(selector):
            pass
    with pytest.raises(VersionNotLoaded), table.use("m@3"):
        pass
