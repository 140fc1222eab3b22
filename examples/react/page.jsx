import { createRoot } from 'react-dom/client';
import { WhatsAppSessionList } from './components.jsx';

const userId = new URLSearchParams(location.search).get('userId');
createRoot(document.getElementById('root')).render(<WhatsAppSessionList userId={userId} />);
