"""All kinds. A new one is one entry in one of the lists."""

from tests.catalogue.kinds_answering import ANSWERING
from tests.catalogue.kinds_classifiers import CLASSIFIERS
from tests.catalogue.kinds_decoders import DECODERS
from tests.catalogue.kinds_encoders import ENCODERS
from tests.catalogue.kinds_features import FEATURES
from tests.catalogue.kinds_fill_mask import FILL_MASK
from tests.catalogue.kinds_generation import GENERATION
from tests.catalogue.kinds_rerankers import RERANKERS
from tests.catalogue.kinds_sentences import SENTENCES
from tests.catalogue.kinds_token_classifiers import TOKEN_CLASSIFIERS
from tests.catalogue.kinds_tokenizers import TOKENIZERS
from tests.catalogue.kinds_weights import WEIGHTS
from tests.catalogue.kinds_zero_shot import ZERO_SHOT

KINDS = [
    *ENCODERS,
    *DECODERS,
    *SENTENCES,
    *CLASSIFIERS,
    *RERANKERS,
    *TOKEN_CLASSIFIERS,
    *ANSWERING,
    *ZERO_SHOT,
    *FILL_MASK,
    *FEATURES,
    *TOKENIZERS,
    *WEIGHTS,
    *GENERATION,
]
