"""The bond for Nav2's lifecycle manager; bondpy, which no wheel has, is a stand-in."""

import sys
import types

import pytest

pytest.importorskip("rclpy")


class Bond:
    made = []  # noqa: RUF012

    def __init__(self, topic, id, node, on_broken=None, on_formed=None):
        self.topic, self.id, self.node, self.alive = topic, id, node, None
        self.made.append(self)

    def start(self):
        self.alive = True

    def shutdown(self):
        self.alive = False


@pytest.fixture
def bonds(monkeypatch):
    package, module = types.ModuleType("bondpy"), types.ModuleType("bondpy.bondpy")
    package.bondpy, module.Bond, Bond.made = module, Bond, []
    monkeypatch.setitem(sys.modules, "bondpy", package)
    monkeypatch.setitem(sys.modules, "bondpy.bondpy", module)
    return Bond.made


def test_an_active_node_has_a_bond_and_no_other(stand_in, bonds):
    rig = stand_in()
    rig.change_state("configure")
    assert bonds == []
    rig.change_state("activate")
    (bond,) = bonds
    assert (bond.topic, bond.id, bond.node, bond.alive) == ("bond", "eomt_ext", rig.node, True)
    rig.change_state("deactivate")
    assert not bond.alive
    rig.change_state("activate")
    assert [bond.alive for bond in bonds] == [False, True]
    rig.change_state("shutdown")
    assert [bond.alive for bond in bonds] == [False, False]
