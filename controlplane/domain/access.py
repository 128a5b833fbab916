"""Who calls, and who may do what with an endpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote

#: Headers in which Envoy says who calls, as the token that was verified does: the user, the groups as `membership` puts
#: them, the token's id. Whatever clients send under these names is removed before all else.
USER_HEADER, GROUPS_HEADER, TOKEN_ID_HEADER = CALLER_HEADERS = ("x-wye-user", "x-wye-groups", "x-wye-token")
#: The claims of a token that these headers are made of.
USER_CLAIM, GROUPS_CLAIM, TOKEN_ID_CLAIM = CALLER_CLAIMS = ("sub", "member_of", "tid")
#: The group whose members may do everything.
ADMINS = "admins"
#: The group whose members may read the metrics of everything; a token for this group alone is good for nothing else.
MONITORS = "monitors"
#: The group that everybody is in who has a token.
EVERYONE = "users"


class Permission(StrEnum):
    """What somebody may do with an endpoint; each includes the ones before. The strings are the API's."""

    #: See the endpoint and its state.
    CAN_VIEW = "CAN_VIEW"
    #: Make predictions.
    CAN_QUERY = "CAN_QUERY"
    #: Update, delete, read logs, change permissions.
    CAN_MANAGE = "CAN_MANAGE"

    def includes(self, other: Permission) -> bool:
        """True when whoever has this may do what needs the other."""
        return _ORDER.index(self) >= _ORDER.index(other)


_ORDER = tuple(Permission)


class PrincipalKind(StrEnum):
    """Whom a grant is for; the strings are the API's."""

    USER = "user_name"
    GROUP = "group_name"
    SERVICE_PRINCIPAL = "service_principal_name"


@dataclass(frozen=True, slots=True)
class Grant:
    """One principal's permission on one endpoint."""

    kind: PrincipalKind
    name: str
    permission: Permission


@dataclass(frozen=True, slots=True)
class Caller:
    """Who made a request, as their verified token says."""

    user: str
    groups: tuple[str, ...] = ()

    @property
    def is_admin(self) -> bool:
        """True for members of the group that may do everything."""
        return ADMINS in self.groups

    @property
    def reads_all_metrics(self) -> bool:
        """True for whoever may read the metrics of every endpoint, of the control plane and of the Envoys."""
        return self.is_admin or MONITORS in self.groups

    @property
    def only_monitors(self) -> bool:
        """True when that is all that the caller may do."""
        return self.groups == (MONITORS,)

    def is_meant_by(self, grant: Grant) -> bool:
        """True when the grant is for the caller or for a group they are in."""
        if grant.kind is PrincipalKind.GROUP:
            return grant.name == EVERYONE or grant.name in self.groups
        return grant.name == self.user  # a service principal's token carries its name as the user's


@dataclass(frozen=True, slots=True)
class Audience:
    """Everybody who may query an endpoint: the form in which Envoy is told."""

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = (ADMINS,)

    @property
    def everyone(self) -> bool:
        """True when any valid token will do."""
        return EVERYONE in self.groups


def member(group: str) -> str:
    """What `membership` contains if and only if the group is among its groups, whatever characters are in their names."""
    return f",{quote(group, safe='')},"


def membership(groups: tuple[str, ...]) -> str:
    """Groups as one line of ASCII, for tokens and for Envoy, which compares texts; "" for none."""
    return ",".join(["", *(quote(group, safe="") for group in groups), ""]) if groups else ""


def groups_in(line: str) -> tuple[str, ...]:
    """The groups that `membership` was made of."""
    return tuple(unquote(each) for each in line.split(",") if each)


def permission_of(caller: Caller, creator: str, grants: Iterable[Grant]) -> Permission | None:
    """The most that the caller may do with an endpoint that `creator` made; None: not even see it."""
    if caller.is_admin or caller.user == creator:
        return Permission.CAN_MANAGE
    return max((grant.permission for grant in grants if caller.is_meant_by(grant)), key=_ORDER.index, default=None)


def audience(creator: str, grants: Iterable[Grant]) -> Audience:
    """Who may query an endpoint that `creator` made; equal when the same callers may."""
    users, groups = {creator}, {ADMINS}
    for grant in grants:
        if grant.permission.includes(Permission.CAN_QUERY):
            (groups if grant.kind is PrincipalKind.GROUP else users).add(grant.name)
    if EVERYONE in groups:
        return Audience((), (EVERYONE,))
    return Audience(tuple(sorted(users)), tuple(sorted(groups)))
