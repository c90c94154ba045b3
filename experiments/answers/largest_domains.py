"""The domains of which most held-out documents were evaluated, of equal ones those with most tokens; one a line."""

import sys

from reading import Documents


def main():
    domains = Documents().evaluations("alone")[0][1].get("domains") or {}
    wanted = int(sys.argv[2])
    if len(domains) < wanted:
        raise SystemExit(
            f"expected a text of at least {wanted} domains, found {len(domains)}: give data.domain= or other data="
        )
    order = sorted(domains, key=lambda name: (domains[name]["documents"], domains[name]["tokens"], name), reverse=True)
    print("\n".join(order[:wanted]))


if __name__ == "__main__":
    main()
