"""Numbers that bound what one caller can cost all others. ``docs/security.md`` lists what each protects."""

# --- The model services ---

MAX_REQUEST_BYTES = 16 * 2**20  # of one message: MAX_TEXT_CHARACTERS of four bytes each, with room for the rest
MAX_TEXT_CHARACTERS = 3_000_000  # of one request: a prompt and a system message of a million each, and the answer
MAX_CANDIDATES = 1024  # of one proposal or one Score stream: each takes a row of the engine's batch
MAX_MESSAGES = 1000  # of a conversation: the chat template runs over each; a job has two
MIN_TEMPERATURE = 0.01  # of sampling: logits divided by less overflow, and a likelihood is no number
MAX_TEMPERATURE = 100.0  # of sampling: every token is about as likely as any other long before
SMALL_TEXT_CHARACTERS = 50_000  # up to here a text is tokenised in about 0.1 s, and need not wait for a larger one
FIRST_MESSAGE_SECONDS = 10.0  # for the first message of a call: an honest client sends it at once
