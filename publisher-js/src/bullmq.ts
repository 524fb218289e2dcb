/** BullMQ. */
export {};
