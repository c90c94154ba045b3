"""The domain of which most held-out documents were evaluated, of equal ones the one with most tokens."""

from reading import Documents


def main():
    domains = Documents().evaluations("alone")[0][1].get("domains") or {}
    if not domains:
        raise SystemExit("the text has no domains: give data.domain=, and narrow= for one of them")
    print(max(domains, key=lambda name: (domains[name]["documents"], domains[name]["tokens"], name)))


if __name__ == "__main__":
    main()
