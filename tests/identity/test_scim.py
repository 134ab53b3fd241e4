"""A company's directory keeps users here (SCIM 2.0), in the words of Entra and Okta, and no further than it may."""

import json
from itertools import count

import pytest

from client_keys import Keyed
from ostiary.audit.log import entries
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.secret import Secret
from ostiary.identity import principals, provisioning, registration, scim, session
from ostiary.identity.passwords import hash_password

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
NUMBERS = count()


class Directory:
    """What a company's directory does, by a client of its own."""

    def __init__(self, world, roles=("clerk", "buyer=ERP Buyers"), takes_over=(), **told):
        self.world, self.id = world, f"dir-{next(NUMBERS)}"
        self.secret = world.register(self.id, **told)
        self.allow(roles, takes_over)
        self.token = self.fresh()

    def allow(self, roles=(), takes_over=()):
        self.world.do(provisioning.allow, client_id=self.id, roles=roles, takes_over=takes_over)

    def fresh(self, **form):
        answer = self.world.token((self.id, self.secret), grant_type="client_credentials", **form)
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def ask(self, method, path, *, token=None, headers=None, **more):
        shown = {"authorization": f"Bearer {token or self.token}", **(headers or {})}
        return self.world.ask(method, f"/identity/scim/v2/{path}", headers=shown, **more)

    def make(self, name=None, **told):
        answer = self.ask("POST", "Users", json={"schemas": [USER], "userName": name or f"u{next(NUMBERS)}", **told})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def get(self, one):
        return self.ask("GET", f"Users/{one['id']}").json()

    def patch(self, place, *operations):
        return self.ask("PATCH", place, json={"schemas": [PATCH], "Operations": list(operations)})

    def find(self, kind="Users", **asked):
        answer = self.ask("GET", kind, params=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def members(self, role="clerk"):
        return {one["value"] for one in self.ask("GET", f"Groups/{role}").json()["members"]}

    def kept(self, one):
        """As an administrator sees it."""
        name = self.world.store
        with name.read() as connection:
            return principals.one(connection, f"user:{one['userName']}")


@pytest.fixture
def directory(world):
    return Directory(world)


@pytest.fixture
def one_directory(sqlite_world):
    """Where the database does not matter."""
    return Directory(sqlite_world)


def error(answer):
    told = answer.json()
    assert answer.headers["content-type"] == "application/scim+json"
    assert told["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
    assert told["status"] == str(answer.status_code)
    return answer.status_code, told.get("scimType")


def test_a_user_is_made_found_changed_and_deleted(directory):
    made = directory.make("ben@example.com", displayName="Ben", externalId="42", title="ignored")
    assert made["active"] is True
    assert made["meta"]["location"].endswith(f"/identity/scim/v2/Users/{made['id']}")
    assert directory.kept(made) == {
        "id": "user:ben@example.com", "name": "Ben", "person": "user:ben@example.com", "active": True, "roles": [],
        "accounts": {}, "factors": [], "outside": {},
    }  # fmt: skip
    for text in (
        'userName eq "BEN@example.com"',
        'externalId eq "42"',
        f'id eq "{made["id"]}" and userName eq "ben@example.com"',
    ):
        assert directory.find(filter=text)["Resources"] == [made]
    assert directory.find(filter='userName eq "ben"')["totalResults"] == 0
    whole = {"schemas": [USER], "userName": "benjamin", "displayName": "Benjamin"}
    changed = directory.ask("PUT", f"Users/{made['id']}", json=whole).json()
    assert (changed["userName"], changed["displayName"], changed["active"]) == ("benjamin", "Benjamin", True)
    assert "externalId" not in changed
    assert directory.kept(made)["name"] == "Benjamin"  # the login stays
    assert directory.ask("DELETE", f"Users/{made['id']}").status_code == 204
    assert error(directory.ask("GET", f"Users/{made['id']}")) == (404, None)
    assert directory.find()["totalResults"] == 0
    assert directory.kept(made)["active"] is False


# As Entra writes it, before and after its flag aadOptscim062020, and as Okta does.
OFF = [
    [{"op": "Replace", "path": "active", "value": "False"}],
    [{"op": "replace", "path": "active", "value": False}],
    [{"op": "Add", "path": "active", "value": [{"$ref": None, "value": "False"}]}],
    [{"op": "replace", "value": {"active": False}}],
    [{"op": "replace", "value": {"id": "x", "active": "false", "name.givenName": "B", f"{ENTERPRISE}:department": "Sales"}}],
    [{"op": "replace", "path": f"{USER}:active", "value": False}],
    [
        {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "b@example.com"},
        {"op": "Replace", "path": f"{ENTERPRISE}:department", "value": "Sales"},
        {"op": "Replace", "path": "name.familyName", "value": "B"},
        {"op": "Replace", "path": "ACTIVE", "value": "FALSE"},
    ],
]  # fmt: skip


@pytest.mark.parametrize("operations", OFF)
def test_a_user_is_disabled_in_every_spelling_and_all_it_was_given_ends(directory, operations):
    made = directory.make()
    principal = f"user:{made['userName']}"
    assert directory.patch(f"Users/{made['id']}", *operations).json()["active"] is False
    assert any(key.startswith(f"gen:{principal}#") for key in directory.world.gone)
    with directory.world.store.read() as connection:
        entry = next(one for one in entries(connection) if one["action"] == "principal.disable")
    assert (entry["actor"], entry["object"]) == (f"client:{directory.id}", principal)
    assert (entry["before"], entry["after"]) == ({"active": True}, {"active": False})
    assert directory.patch(f"Users/{made['id']}", {"op": "add", "path": "active", "value": "True"}).json()["active"]


def test_whom_an_administrator_disabled_no_directory_enables(directory):
    made = directory.make()
    place, principal = f"Users/{made['id']}", f"user:{made['userName']}"
    on, off = ({"op": "replace", "path": "active", "value": value} for value in (True, False))
    directory.world.do(principals.disable, principal=principal)
    assert error(directory.patch(place, on)) == (403, "mutability")
    assert directory.patch(place, off).status_code == 200  # it says so too, and changes nothing
    assert error(directory.patch(place, on)) == (403, "mutability")
    directory.ask("DELETE", place)
    assert error(directory.ask("POST", "Users", json={"userName": made["userName"]})) == (403, "mutability")
    directory.world.do(principals.enable, sealer=directory.world.sealer, principal=principal)
    assert directory.make(made["userName"])["active"]


def test_a_deleted_user_may_come_back_under_another_id_and_with_no_role(directory):
    made = directory.make()
    assert (
        directory.patch("Groups/clerk", {"op": "add", "path": "members", "value": [{"value": made["id"]}]}).status_code
        == 200
    )
    assert directory.kept(made)["roles"] == ["clerk"]
    directory.ask("DELETE", f"Users/{made['id']}")
    with directory.world.store.read() as connection:
        (told,) = provisioning.listed(connection)
    assert told["users"] == 0
    assert directory.kept(made)["roles"] == []
    again = directory.make(made["userName"].upper())
    assert again["id"] != made["id"]
    assert directory.kept(made)["active"]
    assert error(directory.ask("DELETE", f"Users/{made['id']}")) == (404, None)


def test_who_is_called_as_one_who_was_deleted_is_proved_by_nothing_of_his(directory):
    """Users come without a password; a name is given to another person some day."""
    world, made = directory.world, directory.make()
    login = made["userName"]
    world.do(
        principals.set_password,
        sealer=world.sealer,
        login=login,
        hashed=hash_password(Secret(world.password), login=""),
    )
    assert world.answer(world.authorize(), username=login).status_code == 303
    world.cookies.clear()
    directory.ask("DELETE", f"Users/{made['id']}")
    directory.make(login)
    assert world.answer(world.authorize(), username=login).status_code == 200
    with world.store.read() as connection:
        assert not session.has_password(connection, f"user:{login}")


def test_what_is_left_out_enables_nobody(directory):
    made = directory.make(active=False)
    assert made["active"] is False
    for whole in ({"userName": made["userName"]}, {"userName": made["userName"], "active": None}):
        assert directory.ask("PUT", f"Users/{made['id']}", json=whole).json()["active"] is False


def test_two_users_are_never_called_the_same(directory):
    made, other = directory.make(), directory.make()
    again = {"userName": made["userName"].upper()}
    assert error(directory.ask("POST", "Users", json=again)) == (409, "uniqueness")
    assert error(directory.ask("PUT", f"Users/{other['id']}", json=again)) == (409, "uniqueness")
    rename = {"op": "replace", "path": "userName", "value": made["userName"]}
    assert error(directory.patch(f"Users/{other['id']}", rename)) == (409, "uniqueness")
    assert error(directory.ask("POST", "Users", json={"userName": "anna"})) == (409, "uniqueness")  # a local one


def test_a_group_gives_the_role_and_takes_it(directory):
    anna, ben = directory.make(), directory.make()
    group = directory.find("Groups", filter='displayName eq "erp buyers"')["Resources"][0]
    assert (group["id"], group["displayName"], group["members"]) == ("buyer", "ERP Buyers", [])
    place = f"Groups/{group['id']}"

    def do(op, path=None, ids=(), **more):
        value = [{"value": one["id"]} for one in ids]
        answer = directory.patch(place, {"op": op, **({"path": path} if path else {}), "value": value, **more})
        assert answer.status_code == 200, answer.text
        return {one["value"] for one in answer.json()["members"]}

    assert do("Add", "members", [anna, ben]) == {anna["id"], ben["id"]}
    assert directory.kept(anna)["roles"] == ["buyer"]
    assert directory.find("Groups", filter=f'id eq "buyer" and members eq "{anna["id"]}"')["totalResults"] == 1
    assert "members" not in directory.find("Groups", excludedAttributes="members")["Resources"][0]
    assert do("Remove", "members", [anna]) == {ben["id"]}
    assert do("remove", f'members[value eq "{ben["id"]}"]') == set()
    assert do(
        "replace", None, value={"id": "buyer", "displayName": "ERP Buyers", "members": [{"value": anna["id"]}]}
    ) == {anna["id"]}
    assert do("remove", "members") == set()
    whole = {"displayName": "ERP Buyers", "members": [{"value": ben["id"], "display": "x"}]}
    assert directory.ask("PUT", place, json=whole).json()["members"][0]["display"] == ben["userName"]
    assert f"gen:user:{ben['userName']}#1" in directory.world.gone
    assert directory.ask("DELETE", place).status_code == 204
    assert directory.members("buyer") == set()
    assert directory.kept(ben)["roles"] == []
    with directory.world.store.read() as connection:
        entry = next(one for one in entries(connection) if one["action"] == "principal.roles")
    assert (entry["before"], entry["after"]) == ({"roles": ["buyer"]}, {"roles": []})


def test_a_group_shows_and_moves_nobody_but_the_clients_own(directory):
    """Anna is local and holds the role too."""
    ben = directory.make()
    assert directory.members("clerk") == set()
    assert directory.ask("PUT", "Groups/clerk", json={"members": [{"value": ben["id"]}]}).status_code == 200
    assert directory.ask("DELETE", "Groups/clerk").status_code == 204
    assert directory.kept({"userName": "anna"})["roles"] == ["clerk"]


def test_no_role_is_given_that_was_not_opened(directory):
    made = directory.make(roles=["admin"], groups=[{"value": "admin"}])
    assert directory.kept(made)["roles"] == []
    for role in ("admin", "bot", "ERP%20Buyers", "buyer,admin"):
        add = {"op": "add", "path": "members", "value": [{"value": made["id"]}]}
        assert error(directory.patch(f"Groups/{role}", add)) == (404, None)
        assert error(directory.ask("PUT", f"Groups/{role}", json={"members": []})) == (404, None)
    assert (
        directory.patch(
            f"Users/{made['id']}", {"op": "add", "path": "roles", "value": [{"value": "admin"}]}
        ).status_code
        == 200
    )
    assert (
        directory.patch(f"Users/{made['id']}", {"op": "add", "value": {"groups": [{"value": "clerk"}]}}).status_code
        == 200
    )
    assert directory.kept(made)["roles"] == []
    assert error(directory.ask("POST", "Groups", json={"displayName": "admin"})) == (405, None)
    rename = {"op": "replace", "path": "displayName", "value": "admin"}
    assert error(directory.patch("Groups/clerk", rename)) == (400, "mutability")
    directory.allow(["buyer"])  # the other is taken back
    assert error(directory.ask("GET", "Groups/clerk")) == (404, None)


def test_what_the_policy_keeps_apart_a_directory_keeps_apart(directory):
    directory.allow(["clerk", "admin"])
    made = directory.make()
    add = {"op": "add", "path": "members", "value": [{"value": made["id"]}]}
    assert error(directory.patch("Groups/admin", add)) == (400, "invalidValue")
    assert directory.kept(made)["roles"] == []


def test_another_client_sees_and_touches_nobody(directory):
    made, other = directory.make(), Directory(directory.world)
    place = f"Users/{made['id']}"
    assert other.find()["totalResults"] == 0
    off = {"op": "replace", "path": "active", "value": False}
    answers = [
        other.ask("GET", place),
        other.patch(place, off),
        other.ask("PUT", place, json={"userName": "x"}),
        other.ask("DELETE", place),
    ]
    assert [error(answer) for answer in answers] == [(404, None)] * 4
    add = {"op": "add", "path": "members", "value": [{"value": made["id"]}]}
    assert error(other.patch("Groups/clerk", add)) == (400, None)
    assert error(other.ask("POST", "Users", json={"userName": made["userName"]})) == (409, "uniqueness")
    for name in ("user:anna", "anna", "client:shop", "uid:0", f"client:{directory.id}", "*", "%25", "..", "scim-"):
        assert directory.ask("DELETE", f"Users/{name}").status_code in {404, 405}
    assert directory.kept({"userName": "anna"})["active"]


def test_a_client_takes_over_whom_an_administrator_names(directory):
    directory.allow(["clerk"], ["anna=anna@example.com"])
    (anna,) = directory.find(filter='userName eq "anna@example.com"')["Resources"]
    assert directory.members() == {anna["id"]}
    assert directory.patch(f"Users/{anna['id']}", {"op": "replace", "value": {"active": False}}).status_code == 200
    assert directory.kept({"userName": "anna"})["active"] is False
    with pytest.raises(CallerFault, match="there is no user:nobody"):
        directory.allow([], ["nobody"])
    with pytest.raises(CallerFault, match="no role"):
        directory.allow(["a role"])


def test_nobody_provisions_who_was_not_named_or_is_no_more(directory):
    world, token = directory.world, directory.token
    world.do(provisioning.stop, client_id=directory.id)
    assert error(directory.ask("GET", "Users")) == (403, None)
    with world.store.read() as connection:
        assert provisioning.listed(connection) == []
    with pytest.raises(CallerFault, match="does not provision"):
        world.do(provisioning.stop, client_id=directory.id)
    answer = world.machine(resource=world.settings.scim)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_target")
    directory.allow()
    assert directory.ask("GET", "Users", token=token).status_code == 200
    world.do(principals.disable, principal=f"client:{directory.id}")
    assert error(directory.ask("GET", "Users"))[0] == 401
    world.do(principals.remove, principal=f"client:{directory.id}")
    again = Directory(world)
    assert again.find()["totalResults"] == 0  # whoever comes after it under any name has none of its users


def test_a_token_for_elsewhere_opens_nothing_here_and_one_for_here_nothing_elsewhere(directory):
    world = directory.world
    person = world.signed_in()["access_token"]
    elsewhere = directory.fresh(resource=world.audience)
    for token in (person, elsewhere, world.machine().json()["access_token"], "x", directory.secret):
        answer = directory.ask("GET", "Users", token=token)
        assert error(answer) == (401, None)
        assert answer.headers["ostiary-reason"] == "token-invalid"
        assert "invalid_token" in answer.headers["www-authenticate"]
    none = world.ask("GET", "/identity/scim/v2/Users")
    assert (none.status_code, none.headers["ostiary-reason"]) == (401, "token-missing")
    assert world.userinfo(directory.token).status_code == 401
    claims = world.claims(directory.token, audience=world.settings.scim)
    assert claims.scopes == {"scim"}


def test_a_token_that_was_taken_back_opens_nothing(directory):
    form = {"token": directory.token}
    directory.world.ask("POST", "/identity/revoke", data=form, auth=(directory.id, directory.secret))
    assert directory.ask("GET", "Users").headers["ostiary-reason"] == "token-revoked"


def test_a_bound_token_needs_its_proof_and_a_bound_client_no_secret_in_its_place(world):
    one = Keyed(world, bound="dpop")
    world.do(provisioning.allow, client_id="bank")
    token = one.token(proof=one.proof()).json()["access_token"]
    answer = world.ask("GET", "/identity/scim/v2/Users", headers={"authorization": f"Bearer {token}"})
    assert answer.headers["ostiary-reason"] == "token-unbound"
    proof = one.proof("/identity/scim/v2/Users", method="GET", token=token)
    shown = {"authorization": f"DPoP {token}", "dpop": proof}
    assert world.ask("GET", "/identity/scim/v2/Users", headers=shown).status_code == 200
    assert world.ask("GET", "/identity/scim/v2/Users", headers=shown).status_code == 401  # replayed
    secret = world.register("bound", bound="dpop")
    world.do(provisioning.allow, client_id="bound")
    assert world.ask("GET", "/identity/scim/v2/Users", auth=("bound", secret)).status_code == 403


def test_a_directory_that_fetches_no_tokens_shows_its_secret(directory):
    shown = (directory.id, directory.secret)
    assert directory.world.ask("GET", "/identity/scim/v2/Users", auth=shown).status_code == 200
    wrong = directory.world.ask("GET", "/identity/scim/v2/Users", auth=(directory.id, "wrong"))
    assert error(wrong) == (401, None)
    assert wrong.headers["ostiary-reason"] == "credential-invalid"


def test_a_list_comes_in_pages(directory):
    made = sorted(directory.make()["id"] for _ in range(5))
    pages = [directory.find(startIndex=first, count=2) for first in (1, 3, 5)]
    assert [one["id"] for page in pages for one in page["Resources"]] == made
    assert {page["totalResults"] for page in pages} == {5}
    assert directory.find(count=0)["Resources"] == []
    assert directory.find(count=-1, startIndex=-5)["startIndex"] == 1
    assert directory.find(count=999_999_999)["itemsPerPage"] == 5
    chosen = directory.find(attributes="userName", count=1)["Resources"][0]
    assert set(chosen) == {"schemas", "id", "userName"}


@pytest.mark.parametrize(
    "text",
    [
        "userName",
        'userName eq "a" or userName eq "b"',
        'userName ne "a"',
        'userName co "a"',
        "userName eq 'a'",
        'userName eq "a" -- ',
        'userName eq "\\x"',
        'userName eq "\\u0000"',
        'userName eq "\\ud800"',
        'password eq "a"',
        "(" * 3000,
        'userName eq "' + "a" * 400 + '"',
        " and ".join(['id eq "a"'] * 5),
        "not (" * 500 + 'id eq "a"',
        'userName eq "a" and ',
        'members eq "a"',
        "\n",
    ],
)
def test_a_filter_that_is_not_known_is_refused(one_directory, text):
    assert error(one_directory.ask("GET", "Users", params={"filter": text})) == (400, "invalidFilter")


@pytest.mark.parametrize(
    "name", ["x' OR '1'='1", "%", "_", "a; DROP TABLE principal", "Sales and Marketing", "a\\b", '"']
)
def test_a_filter_is_never_more_than_a_value(one_directory, name):
    one_directory.make(externalId=name)
    found = one_directory.find(filter=f"externalId eq {json.dumps(name)}")["Resources"]
    assert [one["externalId"] for one in found] == [name]
    assert one_directory.find(filter=f"userName eq {json.dumps(name)}")["totalResults"] == 0


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("POST", "Users", {}),
        ("POST", "Users", {"userName": 7}),
        ("POST", "Users", {"userName": ""}),
        ("POST", "Users", {"userName": "a b"}),
        ("POST", "Users", {"userName": "user:anna#1"}),
        ("POST", "Users", {"userName": ["a"]}),
        ("POST", "Users", {"userName": "ok", "active": 1}),
        ("POST", "Users", {"userName": "ok", "active": "no"}),
        ("POST", "Users", {"userName": "ok", "displayName": {"a": 1}}),
        ("POST", "Users", {"userName": "ok", "displayName": "a\x00b"}),
        ("POST", "Users", {"userName": "ok", "externalId": "x" * 201}),
        ("POST", "Users", []),
        ("POST", "Users", None),
        ("PATCH", "Users/ID", {}),
        ("PATCH", "Users/ID", {"Operations": {}}),
        ("PATCH", "Users/ID", {"Operations": [{"op": "move", "path": "active", "value": True}]}),
        ("PATCH", "Users/ID", {"Operations": [{"op": "replace", "value": "x"}]}),
        ("PATCH", "Users/ID", {"Operations": [{"op": "replace", "path": "a[b", "value": "x"}]}),
        ("PATCH", "Users/ID", {"Operations": [{"op": "replace", "path": "x" * 600, "value": "x"}]}),
        ("PATCH", "Users/ID", {"Operations": [{"op": "remove", "path": "userName"}]}),
        ("PATCH", "Users/ID", {"Operations": [{"op": "remove", "path": "active"}]}),
        ("PATCH", "Users/ID", {"Operations": [{"op": "replace", "path": "active", "value": {}}]}),
        ("PATCH", "Users/ID", {"Operations": [{"op": "add", "path": "title", "value": "x"}] * 101}),
        ("PATCH", "Groups/clerk", {"Operations": [{"op": "add", "path": "members", "value": "x"}]}),
        ("PATCH", "Groups/clerk", {"Operations": [{"op": "add", "path": "members", "value": [{"value": []}]}]}),
        ("PATCH", "Groups/clerk", {"Operations": [{"op": "add", "path": "members", "value": [{"value": "nobody"}]}]}),
        ("PATCH", "Groups/clerk", {"Operations": [{"op": "remove", "path": 'members[value co "x"]'}]}),
        ("PUT", "Groups/clerk", {"members": [{"value": f"scim-{n}"} for n in range(1001)]}),
        ("PUT", "Groups/clerk", {"members": 7}),
        ("POST", "Bulk", {}),
        ("POST", "Users/ID", {}),
        ("PUT", "Users", {}),
        ("DELETE", "Users", None),
        ("POST", "Schemas", {}),
    ],
)  # fmt: skip
def test_what_has_not_the_form_is_refused_in_scims_words(one_directory, method, path, sent):
    made = one_directory.make()
    answer = one_directory.ask(method, path.replace("ID", made["id"]), json=sent)
    assert error(answer)[0] in {400, 405}, answer.text
    assert one_directory.get(made)["active"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", 400),
        (b"\xff", 400),
        (b'{"userName": "a", "userName": "b"}', 400),
        (b'{"userName":' * 5000, 400),
        (b"[" * 100_000, 400),
        (b"x" * (scim.BODY_MAX_BYTES + 1), 413),
    ],
)
def test_bodies_without_end_or_form_are_refused(one_directory, sent, status):
    assert error(one_directory.ask("POST", "Users", content=sent))[0] == status


def test_a_web_page_of_others_provisions_nothing(one_directory):
    answer = one_directory.ask("POST", "Users", json={"userName": "x"}, headers={"sec-fetch-site": "cross-site"})
    assert error(answer) == (403, None)


def test_what_there_is_is_told(one_directory):
    config = one_directory.ask("GET", "ServiceProviderConfig").json()
    assert config["patch"] == {"supported": True}
    assert "id" not in config
    assert one_directory.find("ResourceTypes")["totalResults"] == 2
    assert one_directory.ask("GET", f"Schemas/{USER}").json()["id"] == USER
    assert one_directory.ask("GET", "ResourceTypes/Group").json()["endpoint"] == "/Groups"
    for nowhere in ("Schemas/x", "ResourceTypes/x", "Me", "", "Users/", "Users/a/b", "ServiceProviderConfig/x"):
        status = one_directory.ask("GET", nowhere).status_code
        assert status == (200 if nowhere == "Users/" else 404), nowhere


def test_a_public_client_keeps_nobody_whatever_it_was_let(world):
    """Anybody can name it: it has nothing to prove that it is the one."""
    with pytest.raises(CallerFault, match="can't prove itself"):
        world.do(provisioning.allow, client_id="web", roles=["clerk"])
    world.register("tool", auth="api_key")
    with pytest.raises(CallerFault, match="can't prove itself"):
        world.do(provisioning.allow, client_id="tool", roles=["clerk"])
    told = {"sealer": world.sealer, "client_id": "web"}  # one that becomes public later
    world.do(registration.change_client, **told, auth="client_secret")
    world.do(provisioning.allow, client_id="web", roles=["clerk"])
    world.do(registration.change_client, **told, auth="none")
    shown = {"auth": ("web", ""), "json": {"schemas": [USER], "userName": "mallory"}}
    assert error(world.ask("POST", "/identity/scim/v2/Users", **shown)) == (403, None)


@pytest.mark.parametrize("name", ["x\0", "x\x1b[2J"])
def test_members_that_no_id_can_be_are_invalid_on_both_databases(directory, name):
    answer = directory.patch("Groups/clerk", {"op": "add", "path": "members", "value": [{"value": name}]})
    assert error(answer) == (400, "invalidValue")
