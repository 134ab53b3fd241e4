"""The table of commands: whatever it names is there and takes what its command is given."""

import functools
import inspect
from pkgutil import resolve_name
from typing import get_args, get_type_hints

import click
import pytest
from click.testing import CliRunner

from ostiary.cli.main import cli
from ostiary.cli.principals import given, trusted
from ostiary.control.commands import SHARED, TABLE
from ostiary.control.operations import OPERATIONS
from ostiary.identity.clients import AT_THE_GATE, WAYS, Terms
from ostiary.identity.registration import DAYS, DAYS_MAX

KEYS = {
    "also", "arguments", "asks", "besides", "by", "columns", "does", "else", "empty", "help", "knows", "line", "options",
    "reads", "runs", "shows", "told",
}  # fmt: skip


def leaves(acts, path=()):
    for name, act in acts.items():
        if act.keys() & {"does", "reads", "runs"}:
            yield (*path, name), act
        else:
            yield from leaves({one: inner for one, inner in act.items() if isinstance(inner, dict)}, (*path, name))


LEAVES = {" ".join(path): act for path, act in [*leaves(TABLE), *leaves({"client": SHARED["principal"]})]}


def parameters(path):
    """Of the command: the parameters that it always gives, and all that it may."""
    command, context = cli, click.Context(cli)
    for name in path.split():
        command = command.get_command(context, name)
    told = [one for one in command.params if one.expose_value]
    always = {one.name for one in told if one.required or one.multiple or one.nargs == -1}
    always |= {one.name for one in told if isinstance(one.get_default(context), str | int | bool)}
    if LEAVES[path].get("arguments", {}).keys() & {"document", "file"}:
        always |= {one.name for one in told if one.name == "document" or (one.name == "file" and path == "policy fmt")}
    return always | LEAVES[path].get("else", {}).keys(), {one.name for one in told}


def fits(function, *before, names):
    inspect.signature(function).bind(*before, **dict.fromkeys(names))


def operation(by):
    """The function, without what control gives it beside what was asked."""
    function = resolve_name(f"ostiary.{by}")
    first, *_ = takes = list(inspect.signature(function).parameters)
    lent = dict.fromkeys({"sealer", "now"} & {*takes})
    return functools.partial(function, *["control's"] * (1 if first in {"home", "connection", "change"} else 2), **lent)


@pytest.mark.parametrize("path", LEAVES)
def test_what_a_command_names_takes_what_the_command_is_given(path):
    act = LEAVES[path]
    assert act.keys() <= KEYS
    assert len(act.keys() & {"columns", "shows", "told", "runs"}) == 1
    assert ("empty" in act) == ("columns" in act)
    assert act.keys() & {"by", "reads"} if "does" in act else "by" not in act
    assert len(act.keys() & {"by", "reads"}) <= 1
    assert act.get("does", "status") in OPERATIONS
    for names in parameters(path):
        if "runs" in act:
            fits(resolve_name(f"ostiary.cli.{act['runs']}"), names=names)
        if "reads" in act:
            fits(resolve_name(f"ostiary.{act['reads']}"), names=["home", *names])
        elif "runs" not in act:
            fits(operation(act["by"]), names=names | ({"password"} if "asks" in act else set()))
        if "shows" in act:
            fits(resolve_name(f"ostiary.cli.{act['shows']}"), "made", names=names)


def test_what_a_change_leaves_out_is_not_said_to_be_set_anew():
    for command, defaults in (("add", 4), ("change", 0)):
        shown = CliRunner().invoke(cli, ["client", command, "--help"]).output
        assert " ".join(shown.split()).count("unless said") == defaults


@pytest.mark.parametrize(
    ("made", "told", "shown"),
    [
        ({"client_secret": "s"}, {}, "grant_type=client_credentials"),
        ({"client_secret": "s"}, {"roles": ["reader"], "redirects": ["https://a/"]}, "grant_type=client_credentials"),
        ({"client_secret": "s"}, {"redirects": ["https://a/"]}, "its application learns at"),
        ({}, {"auth": "tls_client_auth"}, "It gets its tokens at https://gate/identity/token"),
        ({}, {"auth": "none", "redirects": ["https://a/"]}, "its application learns at"),
        ({}, {"auth": "none"}, "which people enter at https://gate/identity/device"),
    ],
)
def test_what_comes_next_is_told_by_what_the_client_is(made, told, shown):
    with click.Context(cli):
        text = given({"issuer": "https://gate/identity", "client_id": "shop", **made}, **told)
    ways = ("grant_type=client_credentials", "its application learns at", "It gets its tokens at", "enter at")
    assert shown in text
    assert sum(way in text for way in ways) == 1


def test_what_a_claim_brings_is_read_as_one_thing():
    one = {"name": "acme", "issuer": "https://acme", "client_id": "x", "accounts": "jit", "mfa": "no"}
    with click.Context(cli):
        assert "groups=sales-team: reader" in trusted([{**one, "maps": [["groups", "sales-team", "reader"]]}])


@pytest.mark.parametrize(
    ("option", "value", "choices"),
    [("--accounts", "jitt", "'existing', 'jit'"), ("--mfa", "yes", "'no', 'trusted'")],
)
def test_what_a_provider_may_is_chosen_from_what_there_is(option, value, choices):
    arguments = ["provider", "add", "acme", "--issuer", "https://acme", "--client-id", "x", option, value]
    assert choices in CliRunner().invoke(cli, arguments).output


def test_a_client_proves_itself_in_every_way_that_there_is():
    proof, terms = SHARED["proof"], get_type_hints(Terms)
    assert proof["auth"]["type"] == [*get_args(terms["auth"])] == [*WAYS, *AT_THE_GATE]
    assert proof["profile"]["type"] == [*get_args(terms["profile"])]
    assert ["", *proof["bound"]["type"]] == [*get_args(terms["bound"])]
    new = TABLE["client"]["add"]["options"]
    assert all(proof[name]["type"] == new[name]["type"] for name in new.keys() & proof.keys())
    assert f"{DAYS} unless said, {DAYS_MAX} at most" in new["days"]["help"]
    assert f"; {DAYS_MAX} at most" in proof["days"]["help"]
