/* SentencePiece tokenizers in the two layouts that the text encoders expect.
 *
 * xlmr: <s> pieces </s> <pad>..., ids as fairseq counts them: <s> 0, <pad> 1, </s> 2, <unk> 3, a piece's own id + 1.
 *       A model whose own ids already are bos 0, pad 1, eos 2, unk 3 is taken without the offset.
 * mt5:  pieces </s> <pad>..., the model's own ids; eos 1 and pad 0 where the model does not say.
 * mt5-bytes: the same, but a character that no piece has becomes its bytes where the model has pieces for bytes
 *       ("byte fallback", as mT5's published model has), which is what SentencePiece by itself does. `mt5` makes <unk>
 *       of it, as do the tokenizers of Hugging Face that Kandinsky 2.0 is used with.
 * Both cut to max_tokens with the special tokens kept, and pad to max_tokens.
 *
 * A special token that a caption spells out (<s>, <pad>, </s>, <unk> and <mask>; mt5 has no <s> and <mask>) becomes
 * that token, and the texts before and after it are encoded each on its own: so do the tokenizers that the published
 * networks were trained with. The mask is 1 there, also on a <pad>. */
#ifndef DATA_TOKENIZER_H
#define DATA_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/data_config.h"

typedef struct Tokenizer Tokenizer;

Status tokenizer_open(const char *path, TokenizerStyle style, int max_tokens, Tokenizer **out);
void tokenizer_free(Tokenizer *tokenizer);
int tokenizer_max_tokens(const Tokenizer *tokenizer);
/* One more than the greatest id it can give: the least number of rows of an embedding (xlmr: <mask> included). */
int tokenizer_vocabulary(const Tokenizer *tokenizer);

/* ids, mask: max_tokens each; mask is 1 on tokens and 0 on padding. ERR_FORMAT when the text is not UTF-8. May be
 * called by several threads at once. SentencePiece allocates inside. */
Status tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t size, int32_t *ids, int32_t *mask);

#endif
