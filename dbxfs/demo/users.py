"""The calls of `users` and `check`: who the account belongs to and how much space it has."""

from __future__ import annotations

from dbxfs.demo.account import ACCOUNT_ID, TEAM_MEMBER_ID, Account
from dbxfs.demo.arguments import (
    Echo,
    FeaturesGetValues,
    GetAccount,
    GetAccountBatch,
)
from dbxfs.demo.database import HOME
from dbxfs.demo.routes import Call, route
from dbxfs.demo.wire import Json, fail

NAME = {
    "given_name": "Demo",
    "surname": "User",
    "familiar_name": "Demo",
    "display_name": "Demo User",
    "abbreviated_name": "DU",
}
EMAIL = "demo@example.com"
TEAM = {
    "id": "dbtid:AADemoTeam",
    "name": "Demo Team",
    "sharing_policies": {
        "shared_folder_member_policy": {".tag": "anyone"},
        "shared_folder_join_policy": {".tag": "from_anyone"},
        "shared_link_create_policy": {".tag": "default_public"},
        "group_creation_policy": {".tag": "admins_only"},
        "shared_folder_link_restriction_policy": {".tag": "anyone"},
        "enforce_link_password_policy": {".tag": "optional"},
        "default_link_expiration_days_policy": {".tag": "none"},
        "shared_link_default_permissions_policy": {".tag": "default"},
    },
    "office_addin_policy": {".tag": "disabled"},
    "top_level_content_policy": {".tag": "admin_only"},
}


def root_info(account: Account) -> Json:
    """RootInfo: where the member's home is, and what the path root header may name."""
    info: Json = {
        ".tag": "user",
        "root_namespace_id": account.root.namespace,
        "home_namespace_id": account.home.namespace,
    }
    if account.in_team:
        info |= {".tag": "team", "home_path": HOME}
    return info


def _account(*, basic: bool) -> Json:
    value: Json = {
        "account_id": ACCOUNT_ID,
        "name": NAME,
        "email": EMAIL,
        "email_verified": True,
        "disabled": False,
    }
    return value | {"is_teammate": True} if basic else value


@route("users/get_current_account", None, "account_info.read")
async def get_current_account(call: Call, _argument: None) -> Json:
    value = _account(basic=False) | {
        "locale": "en",
        "country": "US",
        "referral_link": "https://www.dropbox.com/referrals/demo",
        "is_paired": False,
        "account_type": {".tag": "business" if call.account.in_team else "pro"},
        "root_info": root_info(call.account),
    }
    if call.account.in_team:
        value |= {"team": TEAM, "team_member_id": TEAM_MEMBER_ID}
    return value


@route("users/get_account", GetAccount, "sharing.read")
async def get_account(_call: Call, argument: GetAccount) -> Json:
    if argument.account_id != ACCOUNT_ID:
        fail("no_account")
    return _account(basic=True)


@route("users/get_account_batch", GetAccountBatch, "sharing.read")
async def get_account_batch(_call: Call, argument: GetAccountBatch) -> list[Json]:
    for ident in argument.account_ids:
        if ident != ACCOUNT_ID:
            fail("no_account", no_account=ident)
    return [_account(basic=True) for _ in argument.account_ids]


@route("users/get_space_usage", None, "account_info.read")
async def get_space_usage(call: Call, _argument: None) -> Json:
    used, quota = call.account.tree.used, call.account.quota
    allocation: Json = {".tag": "individual", "allocated": quota}
    if call.account.in_team:
        allocation = {
            ".tag": "team",
            "used": used,
            "allocated": quota,
            "user_within_team_space_allocated": 0,
            "user_within_team_space_limit_type": {".tag": "off"},
            "user_within_team_space_used_cached": used,
        }
    return {"used": used, "allocation": allocation}


@route("users/features/get_values", FeaturesGetValues, "account_info.read")
async def get_features(call: Call, argument: FeaturesGetValues) -> Json:
    if not argument.features:
        fail("empty_features_list")
    enabled = {"paper_as_files": True, "team_shared_dropbox": call.account.in_team}
    return {
        "values": [
            {
                ".tag": feature.tag,
                feature.tag: {".tag": "enabled", "enabled": enabled.get(feature.tag, False)},
            }
            for feature in argument.features
        ]
    }


@route("check/user", Echo, "account_info.read")
async def check_user(_call: Call, argument: Echo) -> Json:
    return {"result": argument.query}


@route("check/app", Echo, "", auth="app")
async def check_app(_call: Call, argument: Echo) -> Json:
    return {"result": argument.query}
