/** The team of `?watch=bob,cyd`, as `?me=ada`, by the hooks. */
import { PresenceClient } from '@pilotlight/client';
import { PresenceProvider, useMyPresence, usePresence } from '@pilotlight/client/react';
import { createRoot } from 'react-dom/client';

const parameters = new URLSearchParams(location.search);
const client = new PresenceClient({
  url: parameters.get('server') ?? 'http://localhost:8080',
  userId: parameters.get('me') ?? 'ada',
  device: 'example team',
}).open();

function Team({ ids }: { readonly ids: readonly string[] }) {
  const states = usePresence(ids);
  return (
    <ul>
      {ids.map((id) => (
        <li key={id}>
          {id}: {states.get(id)?.status ?? '...'} {states.get(id)?.customStatus?.text}
        </li>
      ))}
    </ul>
  );
}

function Me() {
  const { state, connection, setActivity } = useMyPresence();
  const next = state?.activity === 'AWAY' ? 'ACTIVE' : 'AWAY';
  return (
    <p>
      {client.userId}: {connection}, {state?.activity}{' '}
      <button type="button" onClick={() => void setActivity(next).catch(console.error)}>
        {next}
      </button>
    </p>
  );
}

createRoot(document.getElementById('root') as HTMLElement).render(
  <PresenceProvider client={client}>
    <Me />
    <Team ids={(parameters.get('watch') ?? 'bob,cyd').split(',')} />
  </PresenceProvider>,
);
