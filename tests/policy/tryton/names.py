"""Prints the names that a Tryton database offers, as the learned catalogue has them: `python names.py DATABASE URI`.

Run by the Python of an environment that has the modules of modules.txt, on a database where all of them are active.
"""

import json
import sys

from trytond import config  # type: ignore[import-not-found]


def main(database: str, path: str) -> None:
    config.set("database", "uri", "sqlite://")
    config.set("database", "path", path)
    from trytond.pool import Pool  # type: ignore[import-not-found]
    from trytond.transaction import Transaction  # type: ignore[import-not-found]

    Pool.start()
    pool = Pool(database)
    pool.init()
    methods, links = {}, {}
    with Transaction().start(database, 0, readonly=True):
        for kind in ("model", "wizard", "report"):
            for name, of in pool.iterobject(type=kind):
                methods[f"{kind}.{name}"] = sorted(getattr(of, "__rpc__", {}))
                if kind == "model":
                    ones = {key: field for key, field in of._fields.items() if field._type == "many2one"}
                    links[name] = {key: field.model_name for key, field in sorted(ones.items())}
    told = {"methods": dict(sorted(methods.items())), "links": dict(sorted(links.items()))}
    json.dump(told, sys.stdout, indent=1, sort_keys=True)


main(*sys.argv[1:])
