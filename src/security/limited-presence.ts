import type { CustomStatusRequest } from '../core/custom-status.ts';
import type { Activity, Status, UserState } from '../core/presence.ts';
import type { Principal } from '../core/principal.ts';
import type { Privacy } from '../core/privacy.ts';
import type { RevocationRequest } from '../core/revocations.ts';
import type { ConnectionSeen } from '../core/store.ts';
import type {
  EndableSink,
  HeartbeatResult,
  PresenceApi,
  PrivacyRequest,
  RevocableSink,
  RunningWatch,
} from '../presence/presence-api.ts';
import type { Subscription } from '../presence/subscription.ts';
import type { Limits, Rate } from './limits.ts';

/** Updates that a change of privacy counts as: it writes the whole record, and nodes that show the user read it again. */
const privacyCost = 5;

/** The same presence, as often as one caller may. Every method throws PresenceError RATE_LIMITED beyond that. */
export class LimitedPresence implements PresenceApi {
  readonly #presence: PresenceApi;
  readonly #limits: Limits;
  readonly #principal: Principal | null;
  readonly #address: string;

  /** @param principal null: nobody has to say who they are */
  constructor(presence: PresenceApi, limits: Limits, principal: Principal | null, address: string) {
    this.#presence = presence;
    this.#limits = limits;
    this.#principal = principal;
    this.#address = address;
  }

  async setStatus(userId: string, status: Status, activity: Activity | null): Promise<UserState> {
    this.#take('updates');
    return this.#presence.setStatus(userId, status, activity);
  }

  async getStatus(userId: string): Promise<UserState> {
    this.#takeReads(1);
    return this.#presence.getStatus(userId);
  }

  async getStatuses(userIds: readonly string[]): Promise<UserState[]> {
    this.#takeReads(userIds.length);
    return this.#presence.getStatuses(userIds);
  }

  async heartbeat(userId: string): Promise<HeartbeatResult> {
    this.#take('updates');
    return this.#presence.heartbeat(userId);
  }

  async setCustomStatus(userId: string, request: CustomStatusRequest): Promise<UserState> {
    this.#take('updates');
    return this.#presence.setCustomStatus(userId, request);
  }

  async getConnections(userId: string): Promise<ConnectionSeen[]> {
    this.#take('calls');
    return this.#presence.getConnections(userId);
  }

  async setPrivacy(userId: string, request: PrivacyRequest): Promise<Privacy> {
    this.#limits.takeUpdate(this.#principal, this.#address, privacyCost);
    return this.#presence.setPrivacy(userId, request);
  }

  async getPrivacy(userId: string): Promise<Privacy> {
    this.#take('calls');
    return this.#presence.getPrivacy(userId);
  }

  async revokeTokens(request: RevocationRequest): Promise<number> {
    this.#take('updates');
    return this.#presence.revokeTokens(request);
  }

  async deleteUser(userId: string): Promise<void> {
    this.#take('updates');
    return this.#presence.deleteUser(userId);
  }

  watch(userId: string | null, sink: EndableSink): RunningWatch {
    this.#take('calls');
    if (this.#principal) this.#limits.takeConnection(this.#principal);
    this.#limits.checkRoom();
    const watch = this.#presence.watch(userId, sink);
    const release = this.#holdOpen(userId, watch);
    return {
      expiresAtMs: watch.expiresAtMs,
      add: async (userIds) => {
        this.#edit(userIds.length);
        await watch.add(userIds);
      },
      drained: () => watch.drained(),
      close: () => {
        release();
        return watch.close();
      },
    };
  }

  /** A subscription of a user is one of the user's connections, which the engine bounds. */
  #holdOpen(userId: string | null, watch: RunningWatch): () => void {
    if (userId !== null || this.#principal === null) return () => {};
    try {
      return this.#limits.holdOpen('subscription', this.#principal);
    } catch (error) {
      void watch.close();
      throw error;
    }
  }

  subscribe(sink: RevocableSink): Subscription {
    return this.#presence.subscribe(sink);
  }

  async addWatched(
    subscription: Subscription,
    userIds: readonly string[],
    knownVersions?: ReadonlyMap<string, number>,
  ): Promise<void> {
    this.#edit(userIds.length);
    await this.#presence.addWatched(subscription, userIds, knownVersions);
  }

  /** What a bulk query costs is what it asks for. */
  #takeReads(users: number): void {
    this.#take('calls');
    this.#take('reads', users);
  }

  #edit(users: number): void {
    this.#take('watch-edits', users);
    this.#limits.checkWatchEdges(users);
  }

  #take(rate: Rate, cost = 1): void {
    if (rate === 'updates') this.#limits.takeUpdate(this.#principal, this.#address);
    else this.#limits.take(rate, this.#principal, this.#address, cost);
  }
}
