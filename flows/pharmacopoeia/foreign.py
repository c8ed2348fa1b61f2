"""Sentences in German, French and Spanish, for documents in another language than the corpus."""

from collections.abc import Mapping

FOREIGN: Mapping[str, tuple[str, ...]] = {
    "de": (
        "Der Patient wurde am frühen Morgen mit Schmerzen in der Brust in die Klinik gebracht.",
        "Die Untersuchung ergab keine Hinweise auf eine Entzündung, und das Fieber ging schnell zurück.",
        "Wir empfehlen, das Medikament nach dem Essen mit einem Glas Wasser einzunehmen.",
        "In der zweiten Woche der Behandlung fühlte sich die Kranke deutlich besser als zuvor.",
        "Eine Operation war nicht notwendig, weil sich der Zustand von selbst besserte.",
        "Die Ärztin sprach lange mit den Angehörigen und beantwortete alle ihre Fragen.",
        "Nebenwirkungen traten selten auf und verschwanden, sobald die Dosis verringert wurde.",
        "Für die Studie wurden nur Erwachsene ausgewählt, die schriftlich zugestimmt hatten.",
        "Bitte bewahren Sie diese Packung außerhalb der Reichweite von Kindern auf.",
        "Nach der Entlassung kam der Mann jeden Monat zur Kontrolle in die Praxis.",
        "Ob diese Ergebnisse auch für ältere Menschen gelten, bleibt vorerst offen.",
        "Die Pflegekräfte notierten Puls und Blutdruck mehrmals am Tag in einer Tabelle.",
    ),
    "fr": (
        "Le malade est arrivé à l'hôpital au petit matin avec une forte douleur dans le dos.",
        "L'examen n'a montré aucun signe d'infection, et la fièvre est tombée rapidement.",
        "Nous conseillons de prendre le médicament après le repas avec un verre d'eau.",
        "Au cours de la deuxième semaine, la patiente se sentait nettement mieux qu'auparavant.",
        "Une opération n'a pas été nécessaire, car son état s'est amélioré de lui-même.",
        "Le médecin a parlé longuement avec la famille et a répondu à toutes les questions.",
        "Les effets indésirables étaient rares et disparaissaient dès que la dose était réduite.",
        "Seuls des adultes ayant donné leur accord par écrit ont participé à cette étude.",
        "Veuillez garder cette boîte hors de la portée des enfants et à l'abri de la lumière.",
        "Après sa sortie, l'homme est revenu chaque mois pour une visite de contrôle.",
        "On ne sait pas encore si ces résultats valent aussi pour les personnes âgées.",
        "Les infirmières notaient le pouls et la tension plusieurs fois par jour.",
    ),
    "es": (
        "El paciente llegó al hospital de madrugada con un fuerte dolor en la espalda.",
        "El examen no mostró señales de infección, y la fiebre bajó con rapidez.",
        "Recomendamos tomar el medicamento después de la comida con un vaso de agua.",
        "Durante la segunda semana la enferma se sentía mucho mejor que al principio.",
        "No fue necesaria una operación, porque su estado mejoró por sí solo.",
        "La médica habló largo rato con la familia y respondió a todas sus preguntas.",
        "Los efectos adversos fueron raros y desaparecían en cuanto se reducía la dosis.",
        "En el estudio participaron solamente adultos que habían dado su permiso por escrito.",
        "Guarde esta caja fuera del alcance de los niños y lejos de la luz del sol.",
        "Después del alta, el hombre volvió cada mes a la consulta para una revisión.",
        "Todavía no se sabe si estos resultados valen también para las personas mayores.",
        "Las enfermeras anotaban el pulso y la presión varias veces al día.",
    ),
}
