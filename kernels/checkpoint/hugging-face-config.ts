/**
 * Presets as the `config.json` of a `LlamaForCausalLM`, and tensor names as that model has them. The architecture is the
 * same: pre-norm blocks, grouped-query attention, rotary positions in the rotate-half form, SwiGLU, no biases, matrices
 * `[outputs, inputs]`. Only names differ.
 */
import * as v from 'valibot';
import { type BlockTensorName, tensorLayout } from '../model/layout.ts';
import { headWidth, InvalidPresetError, type Preset, parsePreset } from '../model/preset.ts';
import { ModelConfigError } from './safetensors-errors.ts';

const BLOCK_NAMES: Readonly<Record<BlockTensorName, string>> = {
  'attention.norm': 'input_layernorm',
  'attention.query': 'self_attn.q_proj',
  'attention.key': 'self_attn.k_proj',
  'attention.value': 'self_attn.v_proj',
  'attention.output': 'self_attn.o_proj',
  'ffn.norm': 'post_attention_layernorm',
  'ffn.gate': 'mlp.gate_proj',
  'ffn.up': 'mlp.up_proj',
  'ffn.down': 'mlp.down_proj',
};

/** Buffers that older checkpoints carry and that follow from the configuration. */
const DERIVED_TENSOR = /^model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$/;

/** Name of a tensor of `tensorLayout` in a Hugging Face checkpoint. */
export function huggingFaceName(name: string): string {
  if (name === 'embedding') return 'model.embed_tokens.weight';
  if (name === 'norm') return 'model.norm.weight';
  if (name === 'head') return 'lm_head.weight';
  const [, layer, tensor] = name.match(/^layers\.(\d+)\.(.+)$/) ?? [];
  return `model.layers.${layer}.${BLOCK_NAMES[tensor as BlockTensorName]}.weight`;
}

/** Names of all tensors of a preset, in canonical order. */
export function huggingFaceNames(preset: Preset): string[] {
  return tensorLayout(preset).map(({ name }) => huggingFaceName(name));
}

/** True for a tensor that an import may leave out, because it follows from the configuration. */
export function isDerivedTensor(name: string): boolean {
  return DERIVED_TENSOR.test(name);
}

/** Text of `config.json`. The end-of-text token, the last id, begins and ends documents. */
export function encodeConfig(preset: Preset): string {
  const endOfText = preset.vocabulary - 1;
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    alice_preset: preset.name,
    hidden_size: preset.hidden,
    intermediate_size: preset.ffn,
    num_hidden_layers: preset.layers,
    num_attention_heads: preset.queryHeads,
    num_key_value_heads: preset.keyValueHeads,
    head_dim: headWidth(preset),
    vocab_size: preset.vocabulary,
    max_position_embeddings: preset.context,
    rope_theta: preset.ropeTheta,
    rope_scaling: null,
    rms_norm_eps: preset.normEpsilon,
    hidden_act: 'silu',
    attention_bias: false,
    mlp_bias: false,
    attention_dropout: 0,
    tie_word_embeddings: preset.tied,
    bos_token_id: endOfText,
    eos_token_id: endOfText,
    initializer_range: 0.02,
    torch_dtype: 'float32',
    use_cache: true,
  };
  return `${JSON.stringify(config, null, 2)}\n`;
}

const configSchema = v.looseObject({
  model_type: v.literal('llama'),
  hidden_size: v.number(),
  intermediate_size: v.number(),
  num_hidden_layers: v.number(),
  num_attention_heads: v.number(),
  num_key_value_heads: v.optional(v.number()),
  head_dim: v.nullish(v.number()),
  vocab_size: v.number(),
  max_position_embeddings: v.number(),
  rope_theta: v.optional(v.number()),
  rope_scaling: v.nullish(v.unknown()),
  rope_parameters: v.nullish(v.looseObject({ rope_theta: v.optional(v.number()), rope_type: v.optional(v.string()) })),
  rms_norm_eps: v.number(),
  hidden_act: v.optional(v.literal('silu')),
  attention_bias: v.optional(v.literal(false)),
  mlp_bias: v.optional(v.literal(false)),
  tie_word_embeddings: v.optional(v.boolean()),
  alice_preset: v.optional(v.string()),
});

/** Name of an imported preset that brings none. */
const IMPORTED = 'imported';

/**
 * The preset that a `config.json` describes. Throws {@link ModelConfigError} naming the first thing that Alice's
 * architecture does not have.
 */
export function parseConfig(text: string): Preset {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ModelConfigError('config.json is not JSON', { cause });
  }
  const result = v.safeParse(configSchema, value);
  if (!result.success) {
    const issue = result.issues[0];
    throw new ModelConfigError(`config.json: ${v.getDotPath(issue) ?? 'top level'}: ${issue.message}`);
  }
  const config = result.output;
  const scaled =
    (config.rope_scaling ?? null) !== null || (config.rope_parameters?.rope_type ?? 'default') !== 'default';
  if (scaled) throw new ModelConfigError('config.json: scaled rotary positions (rope_scaling) are not supported');
  const { hidden_size: hidden, num_attention_heads: queryHeads } = config;
  if ((config.head_dim ?? hidden / queryHeads) !== hidden / queryHeads) {
    throw new ModelConfigError(`config.json: head_dim ${config.head_dim} is not ${hidden} / ${queryHeads}`);
  }
  try {
    return parsePreset({
      name: config.alice_preset ?? IMPORTED,
      layers: config.num_hidden_layers,
      hidden,
      queryHeads,
      keyValueHeads: config.num_key_value_heads ?? queryHeads,
      ffn: config.intermediate_size,
      vocabulary: config.vocab_size,
      context: config.max_position_embeddings,
      ropeTheta: config.rope_theta ?? config.rope_parameters?.rope_theta ?? 10_000,
      normEpsilon: config.rms_norm_eps,
      tied: config.tie_word_embeddings ?? false,
    });
  } catch (cause) {
    if (!(cause instanceof InvalidPresetError)) throw cause;
    throw new ModelConfigError(`config.json: ${cause.message}`, { cause });
  }
}
