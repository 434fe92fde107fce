/**
 * Traces in the form of Malachite's Quint model (`system` of one node, v1 of four), for what the shared vectors lack.
 * The states are what `driver.qnt` and `consensus.qnt` of that model make of the inputs.
 */
const integer = (value: number) => ({ '#bigint': String(value) });
const tuple = (...items: unknown[]) => ({ '#tup': items });
const tag = (name: string, value: unknown = tuple()) => ({ tag: name, value });
const powers = { '#map': ['v1', 'v2', 'v3', 'v4'].map((name) => [name, integer(1)]) };

/** Where the node of the model is after an input. */
export interface ModelStep {
  /** The driver's input; absent in the first state. */
  readonly input?: object;
  /** Inputs of the state machine that it led to. */
  readonly executed?: readonly object[];
  readonly round: number;
  readonly step: 'NoStep' | 'ProposeStep' | 'PrevoteStep' | 'PrecommitStep';
  /** The model has still to look at what follows from a change of the step. */
  readonly pending?: boolean;
  readonly valid?: { readonly value: string; readonly round: number };
}

export const start = tag('StartDInput');
export const stepChange = tag('StepChangeDInput');
export const timeout = (kind: 'Propose' | 'Prevote' | 'Precommit') => tag('TimeoutDInput', tag(`${kind}Timeout`));
export const prevote = (from: string, round: number, value: string) =>
  tag('VoteDInput', {
    height: integer(0),
    round: integer(round),
    srcAddress: from,
    valueId: tag('Val', value),
    voteType: tag('Prevote'),
  });
export const proposal = (round: number, value: string, validRound = -1) =>
  tag('ProposalDInput', {
    height: integer(0),
    proposal: value,
    round: integer(round),
    srcAddress: 'v3',
    validRound: integer(validRound),
  });

/** Inputs of the state machine. */
export const rules = {
  newRound: (round: number) => tag('NewRoundCInput', integer(round)),
  roundSkip: (round: number) => tag('RoundSkipCInput', integer(round)),
  timeout: (kind: 'Propose' | 'Precommit', round: number) =>
    tag(`Timeout${kind}CInput`, tuple(integer(0), integer(round))),
};

/** The whole trace, as a file holds it. */
export function trace(steps: readonly ModelStep[]): object {
  const executedInputs: unknown[] = [];
  const states = steps.map(({ input, executed = [], round, step, pending = false }, index) => {
    for (const rule of executed) executedInputs.push(tuple(rule, integer(0), integer(round), tag(step)));
    const cs = {
      height: integer(0),
      round: integer(round),
      step: tag(step),
      lockedRound: integer(-1),
      lockedValue: tag('Nil'),
      validRound: integer(-1),
      validValue: tag('Nil'),
    };
    const es = {
      cs,
      valset: powers,
      executedInputs: [...executedInputs],
      bk: { rounds: { '#map': [] } },
      // Never read, but every input leaves a mark on the model's node.
      proposals: { '#set': [integer(index)] },
      pendingInputs: { '#set': [] },
      pendingStepChange: tag(pending ? step : 'NoStep'),
    };
    return {
      '#meta': { index },
      _hist: { validator: 'v1', input: input ?? tag('NoDInput') },
      system: { '#map': [['v1', { es }]] },
    };
  });
  return { '#meta': { format: 'ITF' }, vars: ['_hist', 'system'], states };
}
