"""Check digits of the identifiers that have them. In: what a pattern matched. Out: whether its check digits agree.

A random number passes Luhn in 1 of 10 cases and mod 97 in 1 of 97: a checksum narrows a pattern and replaces none.
"""

NPI_PREFIX = "80840"  # ISO 7812: 80 for health, 840 for the United States

# Countries by the letters and digits of their IBANs (SWIFT's IBAN registry): the length says where one ends.
IBAN_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK|FI|FK|FO|GL|NL|SD",
    19: "MK|SI",
    20: "AT|BA|EE|KZ|LT|LU|MN|XK",
    21: "CH|HR|LI|LV",
    22: "BG|BH|CR|DE|GB|GE|IE|ME|RS|VA",
    23: "AE|GI|IL|IQ|OM|SO|TL",
    24: "AD|CZ|ES|MD|PK|RO|SA|SE|SK|TN|VG",
    25: "LY|PT|ST",
    26: "IS|TR",
    27: "BI|DJ|FR|GR|IT|MC|MR|SM",
    28: "AL|AZ|BY|CY|DO|GT|HU|LB|NI|PL|SV",
    29: "BR|EG|PS|QA|UA",
    30: "JO|KW|MU",
    31: "MT|SC",
    32: "LC",
    33: "RU",
}


def luhn(written: str) -> bool:
    """Whether the digits of `written` agree with their last one (ISO 7812, annex B)."""
    digits = [int(character) for character in reversed(written) if character.isdecimal()]
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def npi(written: str) -> bool:
    """Whether a National Provider Identifier is one: Luhn over it and its prefix (45 CFR 162.406)."""
    return luhn(NPI_PREFIX + written)


def iban(written: str) -> bool:
    """Whether an IBAN is one: its letters as numbers, the first four characters last, leave 1 (ISO 13616)."""
    plain = "".join(character for character in written if character.isalnum()).upper()
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1
