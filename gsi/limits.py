"""Every limit that keeps one client from harming the others, with its reason. The table is in ``docs/security.md``."""

# --- Payloads and what they make a coordinator do -----------------------------------------------------------------

MAX_PAYLOAD_BYTES = 4 * 2**20  # the longest prompt, in four-byte characters: Redis and the coordinators hold copies
MAX_PAYLOAD_TOKENS = 8200  # strings, brackets and commas; every parameter has some 200, each message 8
MAX_PROMPT_CHARACTERS = 1_000_000  # the longest contexts of models hold some 250,000 tokens
MAX_ID_CHARACTERS = 64  # an id is a part of keys, labels and lines of logs
JOB_ID_PATTERN = rf"^[A-Za-z0-9_-]{{1,{MAX_ID_CHARACTERS}}}$"  # no colon: "x:steps" would be another job's key
MAX_SHORTHAND_CHARACTERS = 1000  # "rsd:logistic=10/0.7:n=4": every parameter once has about 600

MAX_ERROR_BYTES = 2048  # it is stored with the job, logged, and shown on a terminal
MAX_ERROR_FIELDS = 10  # a person mends them one after the other
SHOWN_CHARACTERS = 60  # of a wrong name or value in an error: enough to recognise it

MAX_PATTERN_CHARACTERS = 1000  # of an answer pattern
MAX_PATTERN_SIZE = 2000  # RE2's instructions, by which a search's time grows; [\pL\pN]+ has 1347
MAX_PATTERN_MEMORY_BYTES = 2**20  # of each of the 128 patterns that RE2's cache may hold
MAX_SEARCHED_CHARACTERS = 32_768  # the end of a text, which has its last step: 8192 tokens at most
MAX_STOP_TEXTS = 16  # of a job; each is looked for in the whole text after each step
MAX_STOP_CHARACTERS = 256
MAX_MATCH_WORK = 2**26  # instructions times characters times matches: about half a second of a thread at worst

MAX_COMPARED_ANSWERS = 64  # different answers of a vote that mathematics compares; all pairs of 256 are 32,640
MAX_ANSWER_CHARACTERS = 400  # of an answer that mathematics compares; the longest of the papers' data sets has 210
COMPARISON_SECONDS = 5.0  # two answers to parse and to compare; ordinary ones take milliseconds
SLOW_COMPARISON_SECONDS = 1.0  # after one that takes longer, a vote asks a child of its kind: others need not wait
VOTE_SECONDS = 60.0  # of one job's vote: its comparisons and the wait for a child

# --- Calls of the model services -----------------------------------------------------------------------------------

MAX_REQUEST_BYTES = 16 * 2**20  # of one message: MAX_TEXT_CHARACTERS of four bytes each, with room for the rest
MAX_TEXT_CHARACTERS = 3_000_000  # of one request: a prompt and a system message of a million each, and the answer
MAX_REQUEST_CANDIDATES = 1024  # of one proposal or one Score stream: each takes a row of the engine's batch
MAX_QUESTION_CHARACTERS = 10_000  # of a judge's question: some 2,500 tokens, in milliseconds; others wait meanwhile
MAX_LABELS = 100  # of a judge's question: vLLM reports at most 128 given tokens at once
MAX_MESSAGES = 1000  # of a conversation: the chat template runs over each
MIN_TEMPERATURE = 0.01  # of sampling: logits divided by less overflow, and a likelihood is no number
MAX_TEMPERATURE = 100.0  # of sampling: every token is about as likely as any other long before
SMALL_TEXT_CHARACTERS = 50_000  # up to here a text is tokenised in about 0.1 s, and need not wait for a larger one
FIRST_MESSAGE_SECONDS = 10.0  # for the first message of a call: an honest client sends it at once
