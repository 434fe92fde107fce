/** What sessions of every kind make of the recipe and of what was trained. */
import type { InnerStepsInit } from '../train/inner-steps.ts';
import { SessionStateError } from './errors.ts';
import type { RoundIdentity, TrainingRecipe, TrainingWork } from './model-session.ts';

/** The inner loop that a recipe asks for. */
export function innerLoop(recipe: TrainingRecipe, { tokens, learningRate }: TrainingWork): InnerStepsInit {
  return {
    tokens,
    sequencesPerStep: recipe.batchSequences,
    learningRate,
    timeLimitMs: recipe.trainTargetMs,
    minSteps: recipe.minInnerSteps,
    adamw: { weightDecay: recipe.weightDecay },
  };
}

/** What was trained, if it is for this round. Throws {@link SessionStateError} otherwise. */
export function trainedFor<Trained extends { readonly modelRoot: string }>(
  { round, modelRoot }: RoundIdentity,
  trained: Trained | undefined,
): Trained {
  if (trained === undefined) throw new SessionStateError('nothing was trained');
  if (trained.modelRoot !== modelRoot)
    throw new SessionStateError(`trained from ${trained.modelRoot}, but round ${round} is for others`);
  return trained;
}
