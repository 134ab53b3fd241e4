"""Systems that describe themselves by an OData `$metadata` document: as yet only what a policy could say of them."""

from ostiary.erp.odata.metadata import Unfit, drafted

__all__ = ["Unfit", "drafted"]
