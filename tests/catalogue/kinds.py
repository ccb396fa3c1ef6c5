"""All kinds. A new one is one entry in one of the lists."""

from tests.catalogue.kinds_classifiers import CLASSIFIERS
from tests.catalogue.kinds_encoders import ENCODERS
from tests.catalogue.kinds_rerankers import RERANKERS
from tests.catalogue.kinds_sentences import SENTENCES
from tests.catalogue.kinds_tokenizers import TOKENIZERS
from tests.catalogue.kinds_weights import WEIGHTS

KINDS = [*ENCODERS, *SENTENCES, *CLASSIFIERS, *RERANKERS, *TOKENIZERS, *WEIGHTS]
