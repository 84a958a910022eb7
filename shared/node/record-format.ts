/** The form of a kept run: kept-run.ts writes it, report/kept-event.ts reads it. */
export const RECORD_FORMAT = 1;
