r"""What stands around an answer's value: words before it, a currency, a percent sign, a unit, the base of a numeral.

It may be left out, but not exchanged: 5 cm answers what 5 does, and not what 5 km does. Nothing is converted.
"""

import re
from collections import defaultdict

PERCENT = "%"

# Abbreviations are names as they stand. In longer words neither case nor the plural matters.
_SHORT = {
    **{"m": "meter", "cm": "centimeter", "mm": "millimeter", "km": "kilometer", "nm": "nanometer", "in": "inch"},
    **{"ft": "foot", "yd": "yard", "mi": "mile", "g": "gram", "gm": "gram", "kg": "kilogram", "mg": "milligram"},
    **{"lb": "pound", "lbs": "pound", "oz": "ounce", "s": "second", "sec": "second", "secs": "second", "h": "hour"},
    **{"ms": "millisecond", "min": "minute", "mins": "minute", "hr": "hour", "hrs": "hour", "yr": "year"},
    **{"L": "liter", "mL": "milliliter", "ml": "milliliter", "deg": "degree", "rad": "radian", "yrs": "year"},
    **{"N": "newton", "J": "joule", "kJ": "kilojoule", "W": "watt", "kW": "kilowatt", "V": "volt", "K": "kelvin"},
    **{"Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "Pa": "pascal", "kPa": "kilopascal", "mol": "mole"},
    **{"eV": "electronvolt", "keV": "kiloelectronvolt", "MeV": "megaelectronvolt", "AM": "am", "PM": "pm"},
    **{"am": "am", "pm": "pm", "USD": "dollar", "EUR": "euro", "GBP": "pound", "Rs": "rupee"},
}
_LONG = {
    **{"metre": "meter", "centimetre": "centimeter", "millimetre": "millimeter", "kilometre": "kilometer"},
    **{"litre": "liter", "millilitre": "milliliter", "feet": "foot", "people": "person", "men": "man"},
    **{"women": "woman", "children": "child", "celsiu": "c", "fahrenheit": "f"},
}
_COMPOUND = {"mph": "mile/hour", "kmh": "km/hour", "kph": "km/hour"}
_CURRENCIES = {"$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee", "¢": "cent"}
_POWERS_BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_POWERS_BEHIND = {"squared": 2, "cubed": 3}
_MULTIPLES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}  # powers of ten
_BASES = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]

# Words that change a value, or begin another thought: "5 dozen", "7 or 8", "3 sin x", "0 if n is odd".
_NO_UNIT = re.compile(
    "not|no|and|or|nor|plus|minus|times|divided|more|less|fewer|than|if|when|where|unless|except|for|from|to|over|with|"
    "without|is|are|mod|modulo|choose|factorial|squared|cubed|half|halves|thirds?|quarters?|fourths|fifths|sixths|"
    "tenths|dozens?|percent|sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|theta|alpha|beta|gamma|lambda|sigma|omega|"
    "infinity|infinite|true|false|zero|negative|below|remainder",
    re.IGNORECASE,
)
_FILLER = re.compile("a|an|the|of|different|distinct|possible|total|units?", re.IGNORECASE)

_BEFORE = re.compile(
    r"^(?:(?:(?:so|thus|hence|therefore),? )?(?:the |my )?(?:(?:final|correct|right|best) )?"
    r"(?:(?:answer|option)(?: choice)?|choice)\b(?: is(?! not\b))? ?[:=]? ?(?:(?:option|choice) )?(?=.)"
    r"|(?:i|we) (?:choose|pick|select) "
    r"|(?:the|there|it|he|she|they|we|total)(?: (?!not |no )[a-z]+){0,6}?"
    r"(?: (?:is|are|was|were|will be|equals|has|have|takes?|costs?|needs?|makes?|earns?) ?:?|:) ?(?=[-+(\\$\d.]))",
    re.IGNORECASE,
)
_AND_ROUGHLY = re.compile(r"(?<=[\d)}!]) ?\\approx.*$", re.DOTALL)  # \frac{11}{36} \approx 0.306
_ROUGHLY = re.compile(r"^(?:\\approx|(?:about|approximately|roughly|around|exactly)\b) ?(?=[-+\\.\d$])", re.IGNORECASE)
_MONEY_BEFORE = re.compile(r"([+-]?) ?(?:(\\?\$|[€£¥₹])|(USD|EUR|GBP|Rs)\b\.?) ?(?=[\d.])")
_MONEY_BEHIND = re.compile(r"(?<=\d) ?(\\?\$|[€£¥₹¢])$")
_PERCENT = re.compile(r" ?(?:\\?%|\b(?:percent|per cent|pct)\b)$", re.IGNORECASE)
_BASE = re.compile(
    r"\(?(\d[\dA-F]*(?:\.[\dA-F]+)?)\)? ?(?:_ ?\{? ?\(?|\(?base )"
    rf"({'|'.join(_BASES)}|\d+) ?\)? ?\}}?\)?"
)
_DEGREES = re.compile(r" ?\^\\circ ?([CF]?)$")
_MULTIPLE = re.compile(rf"(?<=\d)((?: (?:{'|'.join(_MULTIPLES)})\b)+)")
_ORDINAL = re.compile(r"(?<=\d) ?(?:\^ ?\{? ?)?(?:st|nd|rd|th) ?\}?$")
_WORD = r"[A-Za-z]+(?:\.[a-z])*\.?(?: ?\^ ?(?:\{ ?)?-?\d(?: ?\})?)?"  # no two ways to read a space: they would multiply
_UNIT = re.compile(rf"(?:(?<=[\d)}}])|(?<=\\pi))( ?)({_WORD}(?:(?: |-| ?/ ?| ?\\cdot ?){_WORD})*)$")
_TOKEN = re.compile(r"(/)|([A-Za-z.]+)(?: ?\^ ?\{? ?(-?\d) ?\}?)?")


def strip_words_before(latex: str) -> str:
    """Return an answer without what introduces it: "The answer is", "Option", "about", dollar signs of LaTeX."""
    latex = latex.rstrip(" .,") or latex
    if len(re.findall(r"(?<!\\)\$", latex)) % 2 == 0:
        latex = re.sub(r"(?<!\\)\$", "", latex)
    return _AND_ROUGHLY.sub("", _ROUGHLY.sub("", _BEFORE.sub("", latex.strip()))).strip()


def split_unit(latex: str) -> tuple[str, str]:
    """Return an answer's value and its unit in one notation; "" if it has none. Quadratic in the answer's length.

    ``latex`` has no words before its value (``strip_words_before``).
    """
    latex = _MULTIPLE.sub(_write_power_of_ten, _ORDINAL.sub("", latex))
    if found := _BASE.fullmatch(latex):
        return found[1], f"base {found[2] if found[2].isdigit() else _BASES.index(found[2]) + 2}"
    if found := _MONEY_BEFORE.match(latex):
        value, unit = _split_words(found[1] + latex[found.end() :])
        currency = _CURRENCIES[found[2][-1]] if found[2] else _SHORT[found[3]]
        return value, " ".join(sorted({currency, *unit.split()}))
    if found := _MONEY_BEHIND.search(latex):
        return latex[: found.start()], _CURRENCIES[found[1][-1]]
    if found := _PERCENT.search(latex):
        return latex[: found.start()], PERCENT
    return _split_words(_DEGREES.sub(r" degree \1", latex).rstrip())


def _write_power_of_ten(found: re.Match[str]) -> str:
    return rf" \cdot 10^{{{sum(_MULTIPLES[word] for word in found[1].split())}}}"


def _split_words(latex: str) -> tuple[str, str]:
    found = _UNIT.search(latex)
    if found is None or not re.search(r"\d|\\pi", latex[: found.start()]):
        return latex, ""
    unit = _read_unit(found[2], is_apart=bool(found[1]))
    return (latex, "") if unit is None else (latex[: found.start()], unit)


def _read_unit(words: str, is_apart: bool) -> str | None:
    """Return words as a unit, such as "hour^-1 mile", or None if they are none: letters, or words of ``_NO_UNIT``."""
    words = re.sub(r"[A-Za-z]+", lambda found: _COMPOUND.get(found[0], found[0]), words.replace(r"\cdot", " "))
    powers: defaultdict[str, int] = defaultdict(int)
    name, factor = "", 1
    for slash, dotted, power in _TOKEN.findall(words):
        word = dotted.replace(".", "")
        if slash or word == "per":
            factor = -1
        elif word.lower() in _POWERS_BEFORE:
            factor *= _POWERS_BEFORE[word.lower()]
        elif name and word.lower() in _POWERS_BEHIND:
            powers[name] *= _POWERS_BEHIND[word.lower()]
        elif not _is_name(word, is_apart or bool(powers), is_first=not powers and factor > 0):
            return None
        elif not _FILLER.fullmatch(word):
            name = _name_unit(word)
            powers[name] += factor * int(power or 1)
            factor = 1
    return " ".join(sorted(name if power == 1 else f"{name}^{power}" for name, power in powers.items()))


def _is_name(word: str, is_apart: bool, is_first: bool) -> bool:
    """Whether a word names a unit. Behind a digit without a space only abbreviations do: 5cm, but 5m is a product."""
    if word in _SHORT:
        return is_apart or len(word) > 1
    if is_first and len(word) < 3:  # 5 a, 5 C
        return False
    is_word = len(word) > 2 and re.search("[aeiou]", word, re.IGNORECASE) and not _NO_UNIT.fullmatch(word)
    return is_apart and bool(is_word or _FILLER.fullmatch(word) or word in ("C", "F"))


def _name_unit(word: str) -> str:
    singular = re.sub(r"(?<=[a-z]{2})(?:(?<=[xh])es|s)$", "", word.lower())
    return _SHORT.get(word) or _LONG.get(singular, singular)
