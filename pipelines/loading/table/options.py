"""Storage options for pyarrow's file systems, under every name that deltalake has for them.

deltalake takes the names of the Rust crate object_store (`AmazonS3ConfigKey`, `GoogleConfigKey`, `AzureConfigKey`), in
upper or lower case. Options that only concern writing, retries or timeouts are left to deltalake.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from pyarrow import fs

from headrace.errors import RecipeError

Names = Mapping[str, tuple[str, ...]]

_S3: Names = {
    "access_key": ("aws_access_key_id", "access_key_id"),
    "secret_key": ("aws_secret_access_key", "secret_access_key"),
    "session_token": ("aws_session_token", "aws_token", "session_token", "token"),
    "region": ("aws_region", "region", "aws_default_region", "default_region"),
    "endpoint": ("aws_endpoint_url_s3", "aws_endpoint_url", "aws_endpoint", "endpoint_url", "endpoint"),
    "anonymous": ("aws_skip_signature", "skip_signature"),
    "force_virtual_addressing": ("aws_virtual_hosted_style_request", "virtual_hosted_style_request"),
    "role_arn": ("aws_iam_role_arn", "aws_s3_assume_role_arn"),
    "session_name": ("aws_iam_role_session_name", "aws_s3_role_session_name"),
}
_GCS: Names = {
    "endpoint": ("google_base_url", "base_url"),
    "anonymous": ("google_skip_signature", "skip_signature"),
    "credentials": (
        *("google_service_account", "service_account", "google_service_account_path", "service_account_path"),
        *("google_application_credentials", "application_credentials"),
    ),
}
_AZURE: Names = {
    "account_name": ("azure_storage_account_name", "account_name"),
    "account_key": (
        *("azure_storage_account_key", "azure_storage_access_key", "azure_storage_master_key"),
        *("account_key", "access_key", "master_key"),
    ),
    "sas_token": ("azure_storage_sas_key", "azure_storage_sas_token", "sas_key", "sas_token"),
    "client_id": ("azure_storage_client_id", "azure_client_id", "client_id"),
    "client_secret": ("azure_storage_client_secret", "azure_client_secret", "client_secret"),
    "tenant_id": (
        *("azure_storage_tenant_id", "azure_storage_authority_id", "azure_tenant_id", "azure_authority_id"),
        *("tenant_id", "authority_id"),
    ),
    "endpoint": ("azure_storage_endpoint", "azure_endpoint", "endpoint"),
    "anonymous": ("azure_skip_signature", "skip_signature"),
}
_NOT_IN_ARROW = {
    "gs": ("google_service_account_key", "service_account_key"),
    "abfs": (
        *("azure_storage_token", "bearer_token", "token"),
        *("azure_storage_use_emulator", "object_store_use_emulator", "use_emulator"),
    ),
    "s3": ("aws_web_identity_token_file", "web_identity_token_file"),
}
"""what deltalake takes and pyarrow has no argument for"""
_FLAGS = {"anonymous", "force_virtual_addressing"}
_YES, _NO = {"1", "true", "on", "yes", "y"}, {"0", "false", "off", "no", "n"}


def filesystem_with(kind: str, authority: str, options: Mapping[str, str]) -> fs.FileSystem:
    """The file system of kind `s3`, `gs` or `abfs` with deltalake's `options`; `authority` is the host in the URI.

    Raises RecipeError for an option that pyarrow cannot follow.
    """
    lower = {key.lower(): value for key, value in options.items()}
    for name, value in lower.items():
        if not isinstance(value, str):
            raise RecipeError(f"storage_options: found {value!r} for {name}, expected text")
    for name in _NOT_IN_ARROW[kind]:
        if name in lower:
            raise RecipeError(f"storage_options: found {name}, which pyarrow lacks, expected keys or none")
    try:
        return STORES[kind](lower, authority)
    except RecipeError:
        raise
    except (TypeError, ValueError) as error:
        raise RecipeError(f"storage_options: {error}") from None


def _s3(options: Mapping[str, str], _: str) -> fs.FileSystem:
    ambient = {name.lower(): value for name, value in os.environ.items() if name.startswith("AWS_")}
    places = {key: value for key, value in _known(ambient, _S3).items() if key in ("region", "endpoint")}
    found = {"region": "us-east-1", **places, **_known(options, _S3)}
    if found.get("anonymous"):  # pyarrow takes keys or this
        found = {key: value for key, value in found.items() if key not in ("access_key", "secret_key", "session_token")}
    return fs.S3FileSystem(**_with_endpoint(found))


def _gcs(options: Mapping[str, str], _: str) -> fs.FileSystem:
    found = _known(options, _GCS)
    credentials = found.pop("credentials", None)
    if credentials not in (None, os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")) and not found.get("anonymous"):
        raise RecipeError(
            "storage_options: found credentials for Google Cloud Storage, expected the same file in the environment "
            "variable GOOGLE_APPLICATION_CREDENTIALS, where pyarrow looks for it"
        )
    return fs.GcsFileSystem(**_with_endpoint(found))


def _azure(options: Mapping[str, str], authority: str) -> fs.FileSystem:
    found = _known(options, _AZURE)
    account, _, domain = authority.partition(".")
    found.setdefault("account_name", account if domain else "")
    endpoint = urlsplit(str(found.pop("endpoint", "")))
    if endpoint.netloc:
        for service in ("blob", "dfs"):
            found |= {f"{service}_storage_authority": endpoint.netloc, f"{service}_storage_scheme": endpoint.scheme}
    if not found["account_name"]:
        raise RecipeError("storage_options: found no account_name, expected one, or a URI with the account")
    if not found.pop("anonymous", False):
        return fs.AzureFileSystem(**found)
    query = {"credential_kind": "anonymous"}
    if endpoint.netloc:
        query |= {"blob_storage_authority": endpoint.netloc, "dfs_storage_authority": endpoint.netloc}
        query["enable_tls"] = str(endpoint.scheme == "https").lower()
    uri = f"abfs://container@{found['account_name']}.dfs.core.windows.net/?{urlencode(query)}"
    return fs.FileSystem.from_uri(uri)[0]


def _known(options: Mapping[str, str], names: Names) -> dict[str, str | bool]:
    """What `options` say about each argument in `names`. Raises RecipeError for a flag that is neither yes nor no."""
    found: dict[str, str | bool] = {}
    for argument, spellings in names.items():
        for name in spellings:
            if name in options and argument not in found:
                found[argument] = _flag(name, options[name]) if argument in _FLAGS else options[name]
    return found


def _flag(name: str, value: str) -> bool:
    if value.lower() not in _YES | _NO:
        raise RecipeError(f"storage_options: found {name} = {value!r}, expected true or false")
    return value.lower() in _YES


def _with_endpoint(found: dict[str, str | bool]) -> dict[str, str | bool]:
    """With `scheme` and `endpoint_override` in place of the URL `endpoint`."""
    endpoint = urlsplit(str(found.pop("endpoint", "")))
    return {**found, "scheme": endpoint.scheme, "endpoint_override": endpoint.netloc} if endpoint.netloc else found


STORES = {"s3": _s3, "gs": _gcs, "abfs": _azure}
"""the kinds of store whose options deltalake and pyarrow both take"""
