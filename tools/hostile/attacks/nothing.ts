import type { Attack } from '../attack.ts';
import { rest } from '../attacker/crowd.ts';

/** The control: a process that could attack and does not. What others do to the machine shows here. */
export const nothing: Attack = {
  name: 'nothing',
  what: 'honest traffic only',
  answers: 'control',
  quick: false,
  async run(context) {
    while (context.pressing()) await rest(50);
    return [];
  },
};
