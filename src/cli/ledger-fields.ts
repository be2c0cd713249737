/** Options of what a run costs: what `cpm cost` asks of a run that was, and `cpm plan` of one that is to be. */
import { ledgerChoicesSchema } from "../live/ledger-assumptions.ts";
import { costMessages as messages } from "./messages/cost.ts";

const choices = ledgerChoicesSchema.shape;

export const ledgerFields = {
  watts: choices.watts.describe(messages.watts.en).meta({ zh: messages.watts.zh }),
  pue: choices.pue.describe(messages.pue.en).meta({ zh: messages.pue.zh }),
  grid: choices.grid.describe(messages.grid.en).meta({ zh: messages.grid.zh }),
  gridKgCo2ePerKwh: choices.gridKgCo2ePerKwh
    .describe(messages.gridKg.en)
    .meta({ zh: messages.gridKg.zh, flag: "grid-kg" }),
  price: choices.price.describe(messages.price.en).meta({ zh: messages.price.zh }),
  pricePerHour: choices.pricePerHour.describe(messages.pricePerHour.en).meta({ zh: messages.pricePerHour.zh }),
  pricePerKwh: choices.pricePerKwh.describe(messages.pricePerKwh.en).meta({ zh: messages.pricePerKwh.zh }),
  currency: choices.currency.describe(messages.currency.en).meta({ zh: messages.currency.zh }),
};
