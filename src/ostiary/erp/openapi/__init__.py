"""Systems described by an OpenAPI 3.0 or 3.1 document: its operations, and what a request to them would do."""

from ostiary.erp.openapi.describe import drafted, load, offer
from ostiary.erp.openapi.document import DOCUMENT_MAX_BYTES, Loaded
from ostiary.erp.openapi.match import Match, Table, fields_sent, operation_of

__all__ = ["DOCUMENT_MAX_BYTES", "Loaded", "Match", "Table", "drafted", "fields_sent", "load", "offer", "operation_of"]
